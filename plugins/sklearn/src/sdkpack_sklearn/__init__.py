"""scikit-learn, XGBoost and LightGBM models for sdkpack."""

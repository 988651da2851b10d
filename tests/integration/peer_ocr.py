"""Runs the other OCR program on the images named in the arguments and prints what it read, as one JSON document.

Executed by the Python of the peer's own environment; sdkpack is not installed there.
"""

import json
import sys

from rapidocr_onnxruntime import RapidOCR

engine = RapidOCR()
result = {}
for path in sys.argv[1:]:
    rows, _ = engine(path)
    result[path] = [[row[1], float(row[2]), row[0]] for row in rows or ()]
print("RESULT " + json.dumps(result))

"""Makes the models that the tests need; run by the Python of the plugin's environment: make_models.py FOLDER CANARY.

Weights are seeded. Each Keras model comes with an npz of its inputs (in/NAME) and of what Keras gives (out/NUMBER).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")

import keras
import numpy as np
import tensorflow as tf
import tf_keras

ROOT, OUTSIDE = Path(sys.argv[1]), Path(sys.argv[2])
RNG = np.random.default_rng(5)
layers = keras.layers

CANARY = """
import pathlib
for place in ("canary", CANARY):
    try:
        pathlib.Path(place).write_text("fired")
    except OSError:
        pass
"""


def save(name, model, library=keras, suffix=".keras"):
    # New models have batch statistics of 0 and 1 and biases of 0, which hide mistakes.
    for weight in model.weights:
        if "float" in str(weight.dtype) and len(weight.shape) == 1:
            weight.assign(RNG.uniform(0.5, 1.5, weight.shape).astype("f4"))
    model.save(ROOT / f"{name}{suffix}")
    shapes = [[2 if dim is None else dim for dim in tensor.shape] for tensor in model.inputs]
    inputs = [RNG.standard_normal(shape).astype("f4") for shape in shapes]
    outputs = tf.nest.flatten(model(inputs if len(inputs) > 1 else inputs[0], training=False))
    names = getattr(model, "input_names", None) or [tensor._keras_history.operation.name for tensor in model.inputs]
    arrays = {f"in/{key}": value for key, value in zip(names, inputs, strict=True)}
    arrays |= {f"out/{index}": np.array(value) for index, value in enumerate(outputs)}
    np.savez(ROOT / f"{name}{suffix}.npz", **arrays)
    return model


def convolutions(library=keras, gelu=True):
    lib = library.layers
    image = library.Input((17, 19, 3), name="image")
    x = lib.Conv2D(8, 3, strides=2, padding="same", activation="relu")(image)
    x = lib.BatchNormalization()(x)
    x = lib.DepthwiseConv2D(3, padding="same")(x)
    x = lib.Dropout(0.5)(x)
    x = lib.SeparableConv2D(6, 3, dilation_rate=2, padding="valid")(x)
    x = lib.Conv2DTranspose(5, 3, strides=2, padding="same")(x)
    x = lib.MaxPooling2D(2, padding="same")(x)
    x = lib.UpSampling2D(2, interpolation="bilinear")(x)
    x = lib.Activation("gelu" if gelu else "swish")(x)
    x = lib.AveragePooling2D(2)(x)
    x = lib.GlobalAveragePooling2D()(x)
    return library.Model(image, lib.Dense(4, activation="softmax", name="scores")(x))


def keras_models():
    save("conv", convolutions())
    steps = keras.Input((7, 5), name="steps")
    save("lstm", keras.Model(steps, layers.LSTM(4, name="last")(layers.LSTM(6, return_sequences=True)(steps))))
    x = layers.Bidirectional(layers.GRU(6, return_sequences=True))(steps)
    save("gru", keras.Model(steps, layers.GRU(4, name="last", reset_after=False)(x)))
    tokens = keras.Input((9, 16), name="tokens")
    x = layers.LayerNormalization()(layers.MultiHeadAttention(4, 4)(tokens, tokens) + tokens)
    save("attention", keras.Model(tokens, layers.Dense(3, name="out")(x)))
    image, vector = keras.Input((8, 8, 3), name="image"), keras.Input((4,), name="vector")
    x = layers.Concatenate()([layers.Flatten()(layers.Conv2D(4, 3, activation="relu")(image)), vector])
    outputs = [layers.Dense(3, name="out")(x), layers.Dense(2, activation="sigmoid", name="gate")(x)]
    save("multi", keras.Model([image, vector], outputs))
    save("sequence", keras.Sequential([keras.Input((None, 5)), layers.Conv1D(3, 3, padding="causal"), layers.ReLU()]))
    save("stateful", keras.Model(fixed := keras.Input((7, 5), batch_size=2, name="steps"),
                                 layers.LSTM(4, stateful=True, name="last", unroll=True)(fixed)))  # fmt: skip
    noisy = keras.Input((8,), name="x")
    x = layers.BatchNormalization(name="norm")(layers.Dropout(0.5, name="drop")(noisy, training=True))
    keras.Model(noisy, layers.Dense(2)(x)).save(ROOT / "noisy.keras")
    image = keras.Input((8, 8, 3), name="image")
    keras.Model(image, layers.BatchNormalization(name="norm")(image, training=True)).save(ROOT / "training.keras")
    noisy = tf_keras.Input((8,), name="x")
    tf_keras.Model(noisy, tf_keras.layers.Dropout(0.5, name="drop")(noisy, training=True)).save(ROOT / "old_noisy.h5")
    # HDF5 as Keras 2 writes it, and as Keras 3 does.
    save("old_conv", convolutions(tf_keras, gelu=False), suffix=".h5")
    steps = tf_keras.Input((7, 5), name="steps")
    save("old_lstm", tf_keras.Model(steps, tf_keras.layers.Bidirectional(tf_keras.layers.LSTM(4))(steps)), suffix=".h5")
    save("new_dense", keras.Sequential([keras.Input((5,)), layers.Dense(3, activation="elu")]), suffix=".h5")
    keras.Sequential([keras.Input((5,)), layers.Dense(3)]).save_weights(ROOT / "only.weights.h5")


def keras_code():
    """Models that bring code."""
    source = f"CANARY = {str(OUTSIDE)!r}\n{CANARY}"
    # What the attacker runs stands in the bytecode itself.
    function = eval(f"lambda x: (exec({source!r}, {{}}), x * 2.0)[1]")
    model = keras.Sequential([keras.Input((4,)), layers.Lambda(function, output_shape=(4,), name="evil")])
    model.save(ROOT / "lambda.keras")
    model.save(ROOT / "lambda.h5")
    old = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Lambda(function, name="evil")])
    old.save(ROOT / "old_lambda.h5")

    (ROOT / "own_layers.py").write_text(OWN_LAYERS)
    space = {}
    exec(OWN_LAYERS, space)
    save("own", keras.Sequential([keras.Input((4,)), space["Doubled"](name="twice"), layers.Dense(2)]))


OWN_LAYERS = """
import keras
import pathlib


@keras.saving.register_keras_serializable(package="Acme")
class Doubled(keras.layers.Layer):
    def call(self, x):
        return x * 2.0
"""


class Two(tf.Module):
    def __init__(self):
        super().__init__()
        self.w = tf.Variable(RNG.standard_normal((4, 3)).astype("f4"))

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
    def plain(self, x):
        return {"y": x @ self.w, "z": tf.nn.relu(x)}

    @tf.function(input_signature=[tf.TensorSpec((1, 6, None, 3), tf.float32, name="image")])
    def image(self, image):
        kernel = tf.reshape(tf.tile(self.w, [1, 9])[:3, :27], [3, 3, 3, 3])
        return {"features": tf.nn.conv2d(image, kernel, 1, "SAME") + 1.0}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, name="x")])
    def anything(self, x):
        return {"y": x * 2.0}

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
    def noisy(self, x):
        return {"y": tf.nn.dropout(x, 0.5)}

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
    def odd(self, x):
        return {"y": tf.math.bessel_i0e(x) + tf.math.polygamma(2.0, x), "ok": x + 1.0}


def saved_models():
    two = Two()
    signatures = {name: getattr(two, name) for name in ("plain", "image", "anything", "noisy", "odd")}
    tf.saved_model.save(two, str(ROOT / "two"), signatures=signatures)

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 2], name="x")
        w = tf.compat.v1.get_variable("w", initializer=np.float32([[1, 2], [3, 4]]), use_resource=False)
        y = tf.matmul(x, w, name="y")
        session.run(tf.compat.v1.global_variables_initializer())
        builder = tf.compat.v1.saved_model.Builder(str(ROOT / "first"))
        info = tf.compat.v1.saved_model.build_tensor_info
        make = tf.compat.v1.saved_model.signature_def_utils.build_signature_def
        signature = {"serving_default": make({"x": info(x)}, {"y": info(y)})}
        builder.add_meta_graph_and_variables(session, ["serve", "tpu"], signature)
        builder.add_meta_graph(["serve"], signature)
        builder.save()

    class Table(tf.Module):
        def __init__(self):
            super().__init__()
            keys, values = tf.constant(["a", "b"]), tf.constant([5, 7], tf.int64)
            self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), -1)

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="word")])
        def call(self, word):
            return {"id": self.table.lookup(word)}

    table = Table()
    tf.saved_model.save(table, str(ROOT / "table"), signatures={"serving_default": table.call})

    class Python(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, name="x")])
        def call(self, x):
            def canary(value):
                OUTSIDE.write_text("fired")
                return value

            return {"y": tf.ensure_shape(tf.numpy_function(canary, [x], tf.float32), [None])}

    python = Python()
    tf.saved_model.save(python, str(ROOT / "python"), signatures={"serving_default": python.call})

    class Files(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, name="x")])
        def call(self, x):
            with tf.control_dependencies([tf.io.write_file(str(OUTSIDE), "fired")]):
                return {"y": x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)}

    files = Files()
    tf.saved_model.save(files, str(ROOT / "files"), signatures={"serving_default": files.call})


def tflite_models():
    image = keras.Input((17, 19, 16), name="image", batch_size=1)
    x = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu")(image)
    x = layers.DepthwiseConv2D(5, padding="same")(layers.Conv2D(64, 1, strides=2)(x))
    x = layers.Dense(64)(layers.Conv2D(32, 1, activation="relu6")(x))
    model = keras.Model(image, layers.Dense(40, name="scores")(layers.GlobalAveragePooling2D()(x)))
    for weight in model.weights:
        if len(weight.shape) == 1:
            weight.assign(RNG.uniform(-0.5, 0.5, weight.shape).astype("f4"))

    @tf.function(input_signature=[tf.TensorSpec((1, 17, 19, 16), name="image")])
    def call(image):
        return {"scores": model(image, training=False)}

    def write(name, **settings):
        converter = tf.lite.TFLiteConverter.from_concrete_functions([call.get_concrete_function()], call)
        for key, value in settings.items():
            setattr(converter, key, value)
        if "supported_types" in settings:
            converter.target_spec.supported_types = settings["supported_types"]
        (ROOT / f"{name}.tflite").write_bytes(converter.convert())

    default = [tf.lite.Optimize.DEFAULT]
    samples = [RNG.standard_normal((1, 17, 19, 16)).astype("f4") for _ in range(8)]
    write("float")
    write("dynamic", optimizations=default)
    write("half", optimizations=default, supported_types=[tf.float16])
    write("integer", optimizations=default, representative_dataset=lambda: ([sample] for sample in samples),
          inference_input_type=tf.int8, inference_output_type=tf.int8)  # fmt: skip
    write("mixed", optimizations=default, representative_dataset=lambda: ([sample] for sample in samples))

    folder = ROOT / "signed"
    module = tf.Module()
    module.call = tf.function(
        lambda pixels: {"twice": pixels * 2.0, "sum": tf.reduce_sum(pixels, -1)},
        input_signature=[tf.TensorSpec((2, 3), tf.float32, name="pixels")],
    )
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.call})
    (ROOT / "signed.tflite").write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(folder)).convert())

    for name, call in (("custom", tf.math.erfinv), ("unknown", _bucketized)):
        odd = tf.function(call, input_signature=[tf.TensorSpec((2, 3), tf.float32)])
        converter = tf.lite.TFLiteConverter.from_concrete_functions([odd.get_concrete_function()], odd)
        converter.allow_custom_ops = True
        (ROOT / f"{name}.tflite").write_bytes(converter.convert())


def _bucketized(x):
    return tf.raw_ops.Bucketize(input=x, boundaries=[0.0, 1.0])


if __name__ == "__main__":
    keras.utils.set_random_seed(7)
    keras_models()
    keras_code()
    saved_models()
    tflite_models()
    # Making the models ran their code.
    OUTSIDE.unlink(missing_ok=True)

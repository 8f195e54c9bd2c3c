# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Export the local fleet's models with TensorFlow, with golden requests computed from the models themselves.

Writes OUTPUT/<model>/<version>/ (a SavedModel) and OUTPUT/<model>/golden.json. A version is written under a hidden
name beside its place and renamed, so a server that watches the directory never sees half of one.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

HERE = Path(__file__).resolve().parent
SEED = 20
Golden = list[dict[str, Any]]


@contextlib.contextmanager
def publishing(place: Path) -> Iterator[Path]:
    """A directory to fill that becomes `place` when the block ends well. Replaces what was there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        yield temporary / "model"
        shutil.rmtree(place, ignore_errors=True)
        (temporary / "model").rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def run(directory: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    """Answer a request from an exported model, loaded into a session the way a server loads it."""
    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        signature = v1.saved_model.load(session, ["serve"], str(directory)).signature_def["serving_default"]
        feeds = {signature.inputs[name].name: values for name, values in inputs.items()}
        fetches = {name: tensor.name for name, tensor in signature.outputs.items()}
        result: dict[str, Any] = session.run(fetches, feeds)
        return result


def add_warmup(directory: Path, model: str, inputs: dict[str, Any]) -> None:
    """Write a Predict request as a warm-up record, which a server replays before a version becomes available."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "serving_default"
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values, dtype=tf.float32))
    log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
    (directory / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(directory / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())


def export_half_plus_two(directory: Path, version: int) -> None:
    """y = x / 2 + 2 with the signatures of TF Serving's own test model of this name.

    Version 2 brings a warm-up record, so the two are different files with the same answers.

    serving_default: x float32 [any shape] -> y of the same shape. regress_x_to_y, regress_x_to_y2 (x / 2 + 3),
    regress_x2_to_y3 and classify_x_to_y take serialized tf.Example with a float feature "x" (or "x2").
    """
    v1 = tf.compat.v1
    graph = tf.Graph()
    with graph.as_default(), v1.Session(graph=graph) as session:
        a = v1.get_variable("a", initializer=0.5, use_resource=True)
        b = v1.get_variable("b", initializer=2.0, use_resource=True)
        c = v1.get_variable("c", initializer=3.0, use_resource=True)
        serialized = v1.placeholder(tf.string, shape=[None], name="tf_example")
        features = tf.io.parse_example(
            serialized,
            {
                "x": tf.io.FixedLenFeature([1], tf.float32),
                "x2": tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0]),
            },
        )
        x = tf.identity(features["x"], name="x")
        x2 = tf.identity(features["x2"], name="x2")
        y = tf.add(tf.multiply(a, x), b, name="y")
        y2 = tf.add(tf.multiply(a, x), c, name="y2")
        y3 = tf.add(tf.multiply(a, x2), c, name="y3")
        signature = v1.saved_model.signature_def_utils
        signatures = {
            "serving_default": signature.predict_signature_def({"x": x}, {"y": y}),
            "regress_x_to_y": signature.regression_signature_def(serialized, y),
            "regress_x_to_y2": signature.regression_signature_def(serialized, y2),
            "regress_x2_to_y3": signature.regression_signature_def(serialized, y3),
            "classify_x_to_y": signature.classification_signature_def(serialized, None, y),
        }
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(directory))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=signatures)
        builder.save()
    if version > 1:
        add_warmup(directory, "half_plus_two", {"x": [[1.0], [2.0], [5.0]]})


def golden_half_plus_two(directory: Path) -> Golden:
    """The canonical request and a wider one, answered by the exported model."""
    golden = []
    for name, values in {"canonical": [1.0, 2.0, 5.0], "wide": [-4.0, 0.0, 0.1, 1e6]}.items():
        # Python checks the declared shape [n, 1], which servers do not: there a plain list is answered by a plain list.
        answers = run(directory, {"x": [[value] for value in values]})["y"].ravel().tolist()
        golden.append(
            {
                "name": name,
                "request": {"instances": values},
                "response": {"predictions": answers},
                "tolerance": 1e-5,
            }
        )
    return golden


def iris_data() -> tuple[Any, Any]:
    """Fisher's Iris measurements: float32 [150, 4] in centimetres, and the species 0, 1 or 2 as int64 [150]."""
    with (HERE / "iris.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    columns = ("sepal_length_cm", "sepal_width_cm", "petal_length_cm", "petal_width_cm")
    features = np.array([[float(row[column]) for column in columns] for row in rows], dtype=np.float32)
    species = {"setosa": 0, "versicolor": 1, "virginica": 2}
    return features, np.array([species[row["species"]] for row in rows], dtype=np.int64)


def export_iris(directory: Path, _version: int) -> None:
    """A small Keras MLP trained on Iris: measurements float32 [n, 4] -> probabilities float32 [n, 3]."""
    tf.keras.utils.set_random_seed(SEED)
    features, labels = iris_data()
    normalize = tf.keras.layers.Normalization(name="normalize")
    normalize.adapt(features)
    model = tf.keras.Sequential(
        [
            tf.keras.Input((4,), name="measurements"),
            normalize,
            tf.keras.layers.Dense(16, activation="relu"),
            tf.keras.layers.Dense(16, activation="relu"),
            tf.keras.layers.Dense(3, activation="softmax", name="probabilities"),
        ]
    )
    model.compile(
        optimizer=tf.keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(features, labels, epochs=80, batch_size=150, verbose=0)
    accuracy = float(model.evaluate(features, labels, batch_size=150, verbose=0)[1])
    if accuracy < 0.95:
        raise SystemExit(f"the iris model reached only {accuracy:.3f} of its training data; at least 0.95 is expected")

    # Keras' own way to export: tf.saved_model.save() writes variables that only its Python loader finds again.
    archive = tf.keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default",
        lambda measurements: {"probabilities": model(measurements, training=False)},
        input_signature=[tf.TensorSpec([None, 4], tf.float32, name="measurements")],
    )
    archive.write_out(str(directory), verbose=False)
    add_warmup(directory, "iris", {"measurements": features[:1]})


def golden_iris(directory: Path) -> Golden:
    """One flower of each species, and all three in one request."""
    features, _ = iris_data()
    flowers = {"setosa": [0], "versicolor": [50], "virginica": [100], "canonical": [0, 50, 100]}
    golden = []
    for name in ("canonical", "setosa", "versicolor", "virginica"):
        values = features[flowers[name]]
        answers = run(directory, {"measurements": values})["probabilities"].tolist()
        # Written with the digits that were measured, not with those of their float32.
        request = [[round(float(value), 2) for value in row] for row in values]
        golden.append(
            {
                "name": name,
                "request": {"instances": request},
                "response": {"predictions": answers},
                "tolerance": 1e-5,
            }
        )
    return golden


MODELS: dict[str, tuple[tuple[int, ...], Callable[[Path, int], None], Callable[[Path], Golden]]] = {
    "half_plus_two": ((1, 2), export_half_plus_two, golden_half_plus_two),
    "iris": ((1,), export_iris, golden_iris),
}


def main() -> None:
    """Export every model whole: versions first, then the golden requests that say it is complete."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="the directory that gets a directory for each model")
    output: Path = parser.parse_args().output
    for name, (versions, export, golden) in MODELS.items():
        for version in versions:
            with publishing(output / name / str(version)) as directory:
                export(directory, version)
        # Both versions of half_plus_two give the same answers, so one list is enough.
        text = json.dumps(golden(output / name / str(versions[-1])), indent=2) + "\n"
        temporary = output / name / ".golden.json"
        temporary.write_text(text, encoding="utf-8")
        temporary.rename(output / name / "golden.json")
        print(f"{name}: versions {', '.join(map(str, versions))}")


if __name__ == "__main__":
    main()

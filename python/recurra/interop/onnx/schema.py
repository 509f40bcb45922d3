"""The messages of onnx.proto3 that models use, as tables by field number."""

from __future__ import annotations

from recurra.interop.onnx.wire import Field, Table

_ENTRY: Table = {1: Field("key", "text"), 2: Field("value", "text")}
TENSOR: Table = {
    1: Field("dims", "int", many=True),
    2: Field("data_type", "int"),
    4: Field("float_data", "float", many=True),
    5: Field("int32_data", "int", many=True),
    7: Field("int64_data", "int", many=True),
    8: Field("name", "text"),
    9: Field("raw_data", "bytes"),
    10: Field("double_data", "double", many=True),
    11: Field("uint64_data", "int", many=True),
    13: Field("external_data", _ENTRY, many=True),
    14: Field("data_location", "int"),
}
_DIMENSION: Table = {1: Field("dim_value", "int"), 2: Field("dim_param", "text")}
_SHAPE: Table = {1: Field("dim", _DIMENSION, many=True)}
_TENSOR_TYPE: Table = {1: Field("elem_type", "int"), 2: Field("shape", _SHAPE)}
_TYPE: Table = {1: Field("tensor_type", _TENSOR_TYPE)}
_VALUE: Table = {1: Field("name", "text"), 2: Field("type", _TYPE)}
_GRAPH: dict[int, Field] = {}
_ATTRIBUTE: Table = {
    1: Field("name", "text"),
    20: Field("type", "int"),
    2: Field("f", "float"),
    3: Field("i", "int"),
    4: Field("s", "bytes"),
    5: Field("t", TENSOR),
    6: Field("g", _GRAPH),
    7: Field("floats", "float", many=True),
    8: Field("ints", "int", many=True),
    9: Field("strings", "bytes", many=True),
    21: Field("ref_attr_name", "text"),
}
_NODE: Table = {
    1: Field("input", "text", many=True),
    2: Field("output", "text", many=True),
    3: Field("name", "text"),
    4: Field("op_type", "text"),
    5: Field("attribute", _ATTRIBUTE, many=True),
    7: Field("domain", "text"),
}
_GRAPH.update(
    {
        1: Field("node", _NODE, many=True),
        2: Field("name", "text"),
        5: Field("initializer", TENSOR, many=True),
        11: Field("input", _VALUE, many=True),
        12: Field("output", _VALUE, many=True),
        15: Field("sparse_initializer", {}, many=True),
    }
)
_OPSET: Table = {1: Field("domain", "text"), 2: Field("version", "int")}
MODEL: Table = {
    1: Field("ir_version", "int"),
    2: Field("producer_name", "text"),
    3: Field("producer_version", "text"),
    7: Field("graph", _GRAPH),
    8: Field("opset_import", _OPSET, many=True),
    25: Field("functions", {}, many=True),
}
#: The value field for each AttributeProto.type.
ATTRIBUTE_TYPES = {1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 6: "floats", 7: "ints", 8: "strings"}

// Fast path of Stream.step: pybind11's argument handling costs more than a small step. Arrays that fit are used in
// place; everything else, errors included, is left to the general method.
#include "bindings/step.h"

namespace recurra::bindings {
namespace {

using py::detail::PyArray_Proxy;

PyTypeObject* stream_type;
PyObject* general_step;  // pybind11's method
constexpr int kArguments = 4;
constexpr const char* kNames[kArguments] = {"x", "reset", "out", "rows"};
PyObject* argument_names[kArguments];

// Tokens, resets and numbers of rows are copied before they are checked: threads may write to numpy arrays without the
// GIL.
constexpr ptrdiff_t kMostCopied = 256;
struct Copies {
  int64_t tokens[kMostCopied];
  uint8_t reset[kMostCopied];
};

// `object` if it is an array of T that can be used in place, else null: (rows,), or (rows, columns) with contiguous
// rows.
template <class T>
const PyArray_Proxy* as_it_is(PyObject* object, int axes, ptrdiff_t rows, ptrdiff_t columns = 1) {
  if (!PyObject_TypeCheck(object, py::detail::npy_api::get().PyArray_Type_)) return nullptr;
  const PyArray_Proxy* a = py::detail::array_proxy(object);
  const auto* type = py::detail::array_descriptor_proxy(a->descr);
  constexpr ptrdiff_t item = sizeof(T);
  const bool fits = a->nd == axes && type->type_num == py::dtype::num_of<T>() && type->byteorder != '>' &&
                    a->dimensions[0] == rows && a->strides[0] % item == 0 &&
                    reinterpret_cast<uintptr_t>(a->data) % sizeof(T) == 0;
  if (!fits || axes == 1) return fits ? a : nullptr;
  return a->dimensions[1] == columns && (columns == 1 || a->strides[1] == item) ? a : nullptr;
}

template <class T>
T* data_of(const PyArray_Proxy* a) {
  return static_cast<T*>(static_cast<void*>(a->data));
}

// The rows of a list, a tuple or an array of int64, or those where a mask is true; the stream checks them.
bool take_rows(int64_t (&to)[kMostCopied], ptrdiff_t& count, PyObject* rows, ptrdiff_t batch_size) {
  if (PyList_CheckExact(rows) || PyTuple_CheckExact(rows)) {
    count = PySequence_Fast_GET_SIZE(rows);
    if (count > kMostCopied) return false;
    for (ptrdiff_t i = 0; i < count; ++i) {
      PyObject* const row = PySequence_Fast_GET_ITEM(rows, i);
      if (!PyLong_CheckExact(row)) return false;
      int overflow = 0;
      to[i] = PyLong_AsLongLongAndOverflow(row, &overflow);
      if (overflow) return false;
    }
    return true;
  }
  if (!PyObject_TypeCheck(rows, py::detail::npy_api::get().PyArray_Type_)) return false;
  if (const PyArray_Proxy* a = as_it_is<bool>(rows, 1, batch_size)) {
    for (ptrdiff_t r = 0; r < batch_size; ++r) {
      if (!data_of<const volatile uint8_t>(a)[r * a->strides[0]]) continue;
      if (count == kMostCopied) return false;
      to[count++] = r;
    }
    return true;
  }
  const PyArray_Proxy* a = py::detail::array_proxy(rows);
  if (a->nd != 1 || a->dimensions[0] > kMostCopied || !as_it_is<int64_t>(rows, 1, a->dimensions[0])) return false;
  count = a->dimensions[0];
  const ptrdiff_t stride = a->strides[0] / ptrdiff_t(sizeof(int64_t));
  for (ptrdiff_t i = 0; i < count; ++i) to[i] = data_of<const volatile int64_t>(a)[i * stride];
  return true;
}

template <class T>
bool take_input(StepInput<T>& input, const Program<T>& program, PyObject* x, ptrdiff_t rows, Copies& copies) {
  const auto& info = program.graph().values().front();
  if (!info.tokens) {
    const PyArray_Proxy* a = as_it_is<T>(x, 2, rows, info.features);
    if (!a) return false;
    input.x = data_of<const T>(a);
    input.row = a->strides[0] / ptrdiff_t(sizeof(T));
    return true;
  }
  const PyArray_Proxy* a = as_it_is<int64_t>(x, 1, rows);
  if (!a) return false;
  const ptrdiff_t stride = a->strides[0] / ptrdiff_t(sizeof(int64_t));
  for (ptrdiff_t r = 0; r < rows; ++r) {
    const int64_t token = copies.tokens[r] = data_of<const volatile int64_t>(a)[r * stride];
    if (token < 0 || token >= info.features) return false;
  }
  input.tokens = {copies.tokens, 1, 1};
  return true;
}

template <class T>
bool take_reset(ProgramStepCall<T>& call, PyObject* reset, ptrdiff_t rows, Copies& copies) {
  if (reset == Py_None) return true;
  const PyArray_Proxy* a = as_it_is<bool>(reset, 1, rows);
  if (!a) return false;
  for (ptrdiff_t r = 0; r < rows; ++r) copies.reset[r] = data_of<const uint8_t>(a)[r * a->strides[0]];
  call.reset = copies.reset;
  call.reset_row = 1;
  return true;
}

// Whether the rows of `out` overlap neither each other nor the input. Tokens are copies.
template <class T>
bool is_apart(const StepInput<T>& x, ptrdiff_t features, const StepOutput<T>& out, ptrdiff_t columns, ptrdiff_t rows) {
  if (rows == 0) return true;
  if (rows > 1 && std::abs(out.row) < columns) return false;
  if (!x.x) return true;
  const auto extent = [rows](const T* first, ptrdiff_t row, ptrdiff_t width) {
    const T* last = first + (rows - 1) * row;
    return std::pair{std::min(first, last), std::max(first, last) + width};
  };
  const auto [from, from_end] = extent(x.x, x.row, features);
  const auto [to, to_end] = extent(out.y, out.row, columns);
  return from_end <= to || to_end <= from;
}

// The output's array: `out`, or a new one.
template <class T>
py::object take_output(StepOutput<T>& output, PyObject* out, ptrdiff_t rows, ptrdiff_t columns) {
  py::object y;
  if (out == Py_None) {
    y = new_array<T>({rows, columns});
  } else {
    const PyArray_Proxy* a = as_it_is<T>(out, 2, rows, columns);
    if (!a || !(a->flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_)) return y;
    y = py::reinterpret_borrow<py::object>(out);
  }
  const PyArray_Proxy* a = py::detail::array_proxy(y.ptr());
  output = {data_of<T>(a), a->strides[0] / ptrdiff_t(sizeof(T))};
  return y;
}

// The output; null if this path does not apply, with nothing changed.
template <class T>
py::object step(Stream<T>& stream, PyObject* x, PyObject* reset, PyObject* out, const RowList& list) {
  const Program<T>& program = stream.program();
  const Graph<T>& graph = program.graph();
  StepInput<T> input = {};
  StepOutput<T> output = {};
  ProgramStepCall<T> call = {&input, &output, nullptr, 0, 0, {}, {}};
  if (graph.inputs() != 1 || graph.outputs().size() != 1) return {};
  const ptrdiff_t rows = list.all() ? stream.rows() : list.count;
  if (!stream.has_step(rows) || !is_short(stream.step_work(rows))) return {};
  Copies copies;
  if (rows > kMostCopied && (reset != Py_None || graph.values().front().tokens)) return {};
  if (!take_input(input, program, x, rows, copies) || !take_reset(call, reset, rows, copies)) return {};
  const ptrdiff_t columns = graph.output(0).features;
  py::object y = take_output(output, out, rows, columns);
  if (!y || (out != Py_None && !is_apart(input, graph.values().front().features, output, columns, rows))) return {};
  const FlushScope flush;
  stream.step(call, list);
  return y;
}

// Apart from step(), so that a step of all rows has no list on its stack.
template <class T>
[[gnu::noinline]] py::object step_listed(Stream<T>& stream, PyObject* x, PyObject* reset, PyObject* out,
                                         PyObject* rows) {
  int64_t list[kMostCopied];
  ptrdiff_t count = 0;
  if (!take_rows(list, count, rows, stream.rows())) return {};
  return step(stream, x, reset, out, {list, count});
}

// Sorts the arguments into x, reset, out, rows; false if they do not fit.
bool sort_arguments(PyObject* const* given, ptrdiff_t positional, PyObject* names, PyObject* (&sorted)[kArguments]) {
  if (positional > kArguments) return false;
  std::copy_n(given, positional, sorted);
  const ptrdiff_t named = names ? PyTuple_GET_SIZE(names) : 0;
  for (ptrdiff_t i = 0; i < named; ++i) {  // keyword names in source code are interned
    const auto* found = std::find(argument_names, argument_names + kArguments, PyTuple_GET_ITEM(names, i));
    if (found == argument_names + kArguments || sorted[found - argument_names]) return false;
    sorted[found - argument_names] = given[positional + i];
  }
  return sorted[0] != nullptr;
}

PyObject* call_general(PyObject* self, PyObject* const* given, ptrdiff_t positional, PyObject* names) {
  const ptrdiff_t count = positional + (names ? PyTuple_GET_SIZE(names) : 0);
  std::vector<PyObject*> arguments = {self};
  arguments.insert(arguments.end(), given, given + count);
  return PyObject_Vectorcall(general_step, arguments.data(), size_t(positional) + 1, names);
}

PyObject* stream_step(PyObject* self, PyObject* const* given, Py_ssize_t positional, PyObject* names) {
  PyObject* sorted[kArguments] = {};
  try {
    if (Py_TYPE(self) == stream_type && sort_arguments(given, positional, names, sorted)) {
      auto* handle = reinterpret_cast<py::detail::instance*>(self)->get_value_and_holder().value_ptr<StreamHandle>();
      const auto run = [&](const auto& stream) {
        const auto given = [&](int i) { return sorted[i] ? sorted[i] : Py_None; };
        if (sorted[3] && sorted[3] != Py_None) return step_listed(*stream, sorted[0], given(1), given(2), sorted[3]);
        return step(*stream, sorted[0], given(1), given(2), {});
      };
      if (py::object y = handle ? handle->visit(run) : py::object()) return y.release().ptr();
    }
  } catch (const std::exception&) {  // the state is unchanged; the general method meets the same error and reports it
  }
  try {
    return call_general(self, given, positional, names);
  } catch (const std::bad_alloc&) {
    return PyErr_NoMemory();
  }
}

PyMethodDef definition = {"step", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(stream_step)),
                          METH_FASTCALL | METH_KEYWORDS,
                          "step($self, /, x, reset=None, out=None, rows=None)\n--\n\nOne step of every sequence, (N, "
                          "features) -> (N, features), "
                          "or of the rows listed."};

}  // namespace

void quicken_step(py::class_<StreamHandle>& type) {
  stream_type = reinterpret_cast<PyTypeObject*>(type.ptr());
  general_step = py::object(type.attr("step")).release().ptr();
  for (int i = 0; i < kArguments; ++i) argument_names[i] = PyUnicode_InternFromString(kNames[i]);
  type.attr("step") = py::reinterpret_steal<py::object>(PyDescr_NewMethod(stream_type, &definition));
}

}  // namespace recurra::bindings

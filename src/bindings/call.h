// The checked arguments of a program's call.
#pragma once
#include "bindings/conversion.h"
#include "bindings/handles.h"

namespace recurra::bindings {

// Whether a call brings whole sequences, (N, T, ...), or one step of each row, (N, ...).
enum class Form { kSequences, kStep };

// A call's arguments. `kept` keeps the arrays alive that the pointers refer to.
template <class T>
struct Call {
  std::vector<Value<T>> inputs;
  std::vector<py::object> kept;
  std::vector<py::object> given;  // of each input, what it was converted from, or null
  std::vector<T> state;
  StateRows<const T> state_rows = {};

  ptrdiff_t rows() const { return inputs[0].batch.rows; }
  ProgramInput<T> input(Stop* stop) const { return {inputs.data(), state_rows, stop}; }
};

// Argument i of `count`: a single one is passed as is, several in a tuple or list. None stands for None everywhere.
inline py::object part(const py::handle& object, ptrdiff_t i, ptrdiff_t count, const char* operation,
                       const char* name) {
  if (count == 1 || object.is_none()) return py::reinterpret_borrow<py::object>(object);
  const bool is_list = PyTuple_Check(object.ptr()) || PyList_Check(object.ptr());
  const ptrdiff_t size = is_list ? PySequence_Fast_GET_SIZE(object.ptr()) : 0;
  check(size == count, operation, name, " is ", is_list ? "" : "not ", "a tuple", is_list ? " of " : "",
        is_list ? std::to_string(size) : "", ", expected a tuple of ", count);
  return py::reinterpret_borrow<py::object>(PySequence_Fast_GET_ITEM(object.ptr(), i));
}

inline std::string part_name(const char* name, ptrdiff_t i, ptrdiff_t count) {
  return count == 1 ? name : name + ("[" + std::to_string(i) + "]");
}

// The shape of the value's array: (row, step, feature), time first if time_major, without the step for a vector.
template <class T>
std::vector<int64_t> shape_of_value(const Value<T>& value, bool time_major) {
  const Batch& batch = value.batch;
  if (value.vector) return {batch.rows, value.features};
  if (time_major) return {batch.steps, batch.rows, value.features};
  return {batch.rows, batch.steps, value.features};
}

template <class T>
void read_input(Call<T>& call, const Program<T>& program, const py::handle& object, Form form, bool time_major) {
  const char* name = program.name().c_str();
  const ptrdiff_t i = ptrdiff_t(call.inputs.size()), count = program.graph().inputs();
  const auto& info = program.graph().values()[size_t(i)];
  const std::string label = part_name("x", i, count);
  const py::array x = info.tokens ? integers(any_array(object, name, label.c_str()), name, label.c_str())
                                  : numbers<T>(object, name, label.c_str(), true);
  if (!info.tokens && x.ptr() != object.ptr() && needs_conversion<T>(object)) {
    call.given.resize(size_t(count));
    call.given[size_t(i)] = py::reinterpret_borrow<py::object>(object);
  }
  Value<T> value = {};
  const ptrdiff_t axes = x.ndim() + (info.tokens ? 1 : 0);  // tokens have no feature axis
  const bool may_be_vector = !info.needs_sequences && info.axis != Axis::kSequence;
  value.vector = form == Form::kStep || info.axis == Axis::kVector || (axes == 2 && may_be_vector);
  if (axes != (value.vector ? 2 : 3)) {
    const std::string width = info.features ? std::to_string(info.features) : "features";
    const char* layout = value.vector ? "(N" : time_major ? "(T, N" : "(N, T";
    check(false, name, label, " has shape ", shape_of{x}, ", expected ", layout,
          info.tokens ? (value.vector ? ",)" : ")") : ", " + width + ")",
          axes == 2 && form == Form::kSequences ? "; add the batch axis: x[None]" : "");
  }
  Batch& batch = value.batch;
  batch.rows = x.shape(!value.vector && time_major ? 1 : 0);
  batch.steps = value.vector ? 1 : x.shape(time_major ? 0 : 1);
  check(i == 0 || batch.rows == call.rows(), name, label, " has ", batch.rows, " rows, expected ",
        call.inputs.empty() ? 0 : call.rows(), ", as x[0] has");
  if (info.tokens) {
    const auto* data = static_cast<const int64_t*>(x.data());  // integers() made it contiguous
    value.x.tokens = time_major && !value.vector ? Sequence<const int64_t>{data, 1, batch.rows}
                                                 : Sequence<const int64_t>{data, batch.steps, 1};
    value.features = 1;
  } else {
    value.features = x.shape(x.ndim() - 1);
    check(!info.features || value.features == info.features, name, label, " has shape ", shape_of{x}, ", so ",
          value.features, " features, expected ", info.features);
    value.x.features = sequence_of<const T>(x, time_major);
  }
  program.graph().check_size(batch, value.features);
  call.inputs.push_back(value);
  call.kept.push_back(x);
}

template <class T>
void read_inputs(Call<T>& call, const Program<T>& program, const py::handle& object, Form form, bool time_major) {
  const ptrdiff_t count = program.graph().inputs();
  call.inputs.reserve(size_t(count));
  call.kept.reserve(size_t(3 * count));
  for (ptrdiff_t i = 0; i < count; ++i)
    read_input(call, program, part(object, i, count, program.name().c_str(), "x"), form, time_major);
}

template <class T>
void read_lengths(Call<T>& call, const Program<T>& program, ptrdiff_t i, const py::handle& object) {
  if (object.is_none()) return;
  const char* name = program.name().c_str();
  Value<T>& value = call.inputs[size_t(i)];
  check(!value.vector, name, "got lengths, but ", part_name("x", i, program.graph().inputs()), " of shape ",
        shape_of{py::reinterpret_borrow<py::array>(call.kept[size_t(i)])}, " has no time axis");
  py::object lengths = checked_lengths(object, value.batch.rows, value.batch.steps, name);
  value.batch.lengths = static_cast<const int64_t*>(py::reinterpret_borrow<py::array>(lengths).data());
  call.kept.push_back(std::move(lengths));
}

template <class T>
void check_tokens(const Call<T>& call, const Program<T>& program) {
  for (ptrdiff_t i = 0; i < program.graph().inputs(); ++i) {
    const auto& info = program.graph().values()[size_t(i)];
    if (!info.tokens) continue;
    const Value<T>& value = call.inputs[size_t(i)];
    for (ptrdiff_t r = 0; r < value.batch.rows; ++r)
      for (ptrdiff_t s = 0; s < value.batch.length(r); ++s) {
        const int64_t token = *value.x.tokens.at(r, s);
        check(token >= 0 && token < info.features, program.name().c_str(), part_name("x", i, program.graph().inputs()),
              " holds token ", token, " in row ", r, " at step ", s, ", expected 0 to ", info.features - 1);
      }
  }
}

// Refuses numbers that the conversion of an input made infinite.
template <class T>
void check_ranges(const Call<T>& call, const Program<T>& program, bool time_major) {
  for (size_t i = 0; i < call.given.size(); ++i) {
    if (!call.given[i]) continue;
    const Value<T>& value = call.inputs[i];
    const std::string label = part_name("x", ptrdiff_t(i), program.graph().inputs());
    check_range(call.given[i], Sequence<const T>(value.x.features), value.batch, value.features, time_major,
                program.name().c_str(), label.c_str());
  }
}

template <class T>
void read_reset(Call<T>& call, const Program<T>& program, ptrdiff_t i, const py::handle& object, bool time_major) {
  if (object.is_none()) return;
  const char* name = program.name().c_str();
  Value<T>& value = call.inputs[size_t(i)];
  Batch& batch = value.batch;
  const py::array given = any_array(object, name, "reset");
  if (given.dtype().kind() != 'b') throw TypeMismatch(name, "reset has dtype " + dtype_text(given) + ", expected bool");
  const py::array_t<bool, kPrivate> a(given);  // a copy: read twice, to count the episodes and to iterate over them
  if (value.vector)
    check_shape(a, {batch.rows}, name, "reset");
  else if (time_major)
    check_shape(a, {batch.steps, batch.rows}, name, "reset");
  else
    check_shape(a, {batch.rows, batch.steps}, name, "reset");
  batch.reset = static_cast<const uint8_t*>(static_cast<const void*>(a.data()));
  batch.reset_row = a.strides(!value.vector && time_major ? 1 : 0);
  batch.reset_step = value.vector ? 0 : a.strides(time_major ? 0 : 1);
  call.kept.push_back(a);
}

// Copies state arrays (count, N, size), one for each of the program's states, into rows `to`. False if all are None.
template <class T>
bool read_state(const Program<T>& program, ptrdiff_t rows, const py::handle& object, const char* what,
                std::vector<T>& to) {
  if (object.is_none()) return false;
  const char* name = program.name().c_str();
  const auto list = py::reinterpret_borrow<py::sequence>(object);
  const auto& states = program.graph().states();
  check(py::isinstance<py::sequence>(object) && list.size() == states.size(), name, what, " has ",
        py::isinstance<py::sequence>(object) ? py::len(object) : 0, " arrays, expected ", states.size());
  to.assign(size_t(rows * program.state_size()), T(0));
  bool any = false;
  for (size_t i = 0; i < states.size(); ++i) {
    if (list[i].is_none()) continue;
    any = true;
    const auto& state = states[i];
    const std::string label = std::string(what) + " " + state.spec.name;
    const py::array a = numbers<T>(list[i], name, label.c_str());
    check_shape(a, {state.spec.count, rows, state.spec.size}, name, label.c_str());
    const Sequence<const T> from = sequence_of<const T>(a);  // (count, row)
    for (ptrdiff_t r = 0; r < rows; ++r)
      for (ptrdiff_t k = 0; k < state.spec.count; ++k)
        std::copy_n(from.at(k, r), state.spec.size,
                    to.data() + r * program.state_size() + state.offset + k * state.spec.size);
  }
  return any;
}

template <class T>
py::list state_arrays(const Program<T>& program, ptrdiff_t rows, const T* from) {
  py::list list;
  for (const auto& state : program.graph().states()) {
    py::array a = new_array<T>({state.spec.count, rows, state.spec.size});
    T* to = static_cast<T*>(a.mutable_data());
    for (ptrdiff_t k = 0; k < state.spec.count; ++k)
      for (ptrdiff_t r = 0; r < rows; ++r)
        to = std::copy_n(from + r * program.state_size() + state.offset + k * state.spec.size, state.spec.size, to);
    list.append(std::move(a));
  }
  return list;
}

template <class T>
Call<T> read_call(const Program<T>& program, const py::handle& x, const py::handle& lengths, const py::handle& reset,
                  const py::handle& state, bool time_major) {
  const char* name = program.name().c_str();
  const ptrdiff_t count = program.graph().inputs();
  Call<T> call;
  read_inputs(call, program, x, Form::kSequences, time_major);
  for (ptrdiff_t i = 0; i < count; ++i) read_lengths(call, program, i, part(lengths, i, count, name, "lengths"));
  check_tokens(call, program);
  check_ranges(call, program, time_major);
  for (ptrdiff_t i = 0; i < count; ++i) read_reset(call, program, i, part(reset, i, count, name, "reset"), time_major);
  if (read_state(program, call.rows(), state, "state", call.state))
    call.state_rows = {call.state.data(), program.state_size()};
  return call;
}

}  // namespace recurra::bindings

// The arguments of a program's call, from Python and checked.
#pragma once
#include "bindings/handles.h"

namespace recurra::bindings {

// Whether a call brings whole sequences, (N, T, ...), or one step of each row, (N, ...).
enum class Form { kSequences, kStep };

// A call's arguments; holds the arrays alive that the pointers in it lead to.
template <class T>
struct Call {
  ProgramInput<T> input = {};
  ptrdiff_t features = 0;
  bool vector = false;  // x has no time axis
  py::array x = no_array();
  py::object lengths = py::none(), reset = py::none();
  std::vector<T> state;

  double work(const Program<T>& program) const { return program.work(input.batch); }
  // What the program returns for it.
  std::vector<int64_t> output_shape(const Program<T>& program, bool time_major) const {
    const int64_t rows = input.batch.rows, steps = program.output_steps(input.batch.steps);
    const int64_t width = program.output_size() ? program.output_size() : features;
    if (vector || !program.returns_sequences()) return {rows, width};
    return time_major ? std::vector<int64_t>{steps, rows, width} : std::vector<int64_t>{rows, steps, width};
  }
};

template <class T>
void read_input(Call<T>& call, const Program<T>& program, const py::handle& object, Form form, bool time_major) {
  const char* name = program.name().c_str();
  const bool tokens = program.takes_tokens();
  call.x = tokens ? integers(object, name, "x") : floats<T>(object, name, "x");
  const ptrdiff_t axes = call.x.ndim() + (tokens ? 1 : 0);  // tokens have no feature axis
  call.vector = form == Form::kStep || (axes == 2 && !program.needs_sequences());
  if (axes != (call.vector ? 2 : 3)) {
    const std::string width = program.input_size() ? std::to_string(program.input_size()) : "features";
    const char* layout = call.vector ? "(N" : time_major ? "(T, N" : "(N, T";
    check(false, name, "x has shape ", shape_of{call.x}, ", expected ", layout,
          tokens ? (call.vector ? ",)" : ")") : ", " + width + ")",
          axes == 2 && form == Form::kSequences ? "; add the batch axis: x[None]" : "");
  }
  Batch& batch = call.input.batch;
  batch.rows = call.x.shape(!call.vector && time_major ? 1 : 0);
  batch.steps = call.vector ? 1 : call.x.shape(time_major ? 0 : 1);
  if (tokens) {
    const auto* data = static_cast<const int64_t*>(call.x.data());  // integers() made it contiguous
    call.input.x.tokens = time_major && !call.vector ? Sequence<const int64_t>{data, 1, batch.rows}
                                                     : Sequence<const int64_t>{data, batch.steps, 1};
    call.features = 1;
  } else {
    call.features = call.x.shape(call.x.ndim() - 1);
    check(!program.input_size() || call.features == program.input_size(), name, "x has shape ", shape_of{call.x},
          ", so ", call.features, " features, expected ", program.input_size());
    call.input.x.features = sequence_of<const T>(call.x, time_major);
  }
  program.check_size(batch, call.features);
}

template <class T>
void check_tokens(const Call<T>& call, const Program<T>& program) {
  if (!program.takes_tokens()) return;
  const Batch& batch = call.input.batch;
  for (ptrdiff_t r = 0; r < batch.rows; ++r)
    for (ptrdiff_t s = 0; s < batch.length(r); ++s) {
      const int64_t token = *call.input.x.tokens.at(r, s);
      check(token >= 0 && token < program.input_size(), program.name().c_str(), "x holds token ", token, " in row ", r,
            " at step ", s, ", expected 0 to ", program.input_size() - 1);
    }
}

template <class T>
void read_reset(Call<T>& call, const Program<T>& program, const py::handle& object, bool time_major) {
  if (object.is_none()) return;
  const char* name = program.name().c_str();
  Batch& batch = call.input.batch;
  const py::array a = as_array(object, name, "reset");
  if (a.dtype().kind() != 'b') throw TypeMismatch(name, "reset has dtype " + dtype_text(a) + ", expected bool");
  if (call.vector)
    check_shape(a, {batch.rows}, name, "reset");
  else if (time_major)
    check_shape(a, {batch.steps, batch.rows}, name, "reset");
  else
    check_shape(a, {batch.rows, batch.steps}, name, "reset");
  batch.reset = static_cast<const uint8_t*>(a.data());
  batch.reset_row = a.strides(!call.vector && time_major ? 1 : 0);
  batch.reset_step = call.vector ? 0 : a.strides(time_major ? 0 : 1);
  call.reset = a;
}

// Arrays (count, N, size), one for each of the program's states, to and from rows.
template <class T>
bool read_state(const Program<T>& program, ptrdiff_t rows, const py::handle& object, const char* what,
                std::vector<T>& to) {
  if (object.is_none()) return false;
  const char* name = program.name().c_str();
  const auto list = py::reinterpret_borrow<py::sequence>(object);
  check(py::isinstance<py::sequence>(object) && list.size() == program.states().size(), name, what, " has ",
        py::isinstance<py::sequence>(object) ? py::len(object) : 0, " arrays, expected ", program.states().size());
  to.assign(size_t(rows * program.state_size()), T(0));
  bool any = false;
  for (size_t i = 0; i < program.states().size(); ++i) {
    if (list[i].is_none()) continue;
    any = true;
    const auto& state = program.states()[i];
    const std::string label = std::string(what) + " " + state.spec.name;
    const py::array a = floats<T>(list[i], name, label.c_str());
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
  for (const auto& state : program.states()) {
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
  Call<T> call;
  read_input(call, program, x, Form::kSequences, time_major);
  Batch& batch = call.input.batch;
  check(lengths.is_none() || !call.vector, program.name().c_str(), "got lengths, but x of shape ", shape_of{call.x},
        " has no time axis");
  call.lengths = checked_lengths(lengths, batch.rows, batch.steps, program.name().c_str());
  if (!call.lengths.is_none())
    batch.lengths = static_cast<const int64_t*>(py::reinterpret_borrow<py::array>(call.lengths).data());
  check_tokens(call, program);
  read_reset(call, program, reset, time_major);
  if (read_state(program, batch.rows, state, "state", call.state))
    call.input.state = {call.state.data(), program.state_size()};
  return call;
}

}  // namespace recurra::bindings

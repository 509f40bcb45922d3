// numpy arrays to pointers and strides. dtype, rank and shape are checked here, once.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <initializer_list>
#include <limits>
#include <memory>
#include <ostream>
#include <string>
#include <variant>

#include "bindings/gil.h"
#include "device/device.h"
#include "platform/eager_stop.h"
#include "platform/error.h"
#include "platform/flush.h"
#include "program/program.h"

namespace recurra::bindings {

namespace py = pybind11;

template <class T>
constexpr const char* dtype_name() {
  return sizeof(T) == 4 ? "float32" : "float64";
}

// Calls f with a null pointer of the type that `dtype` names.
template <class F>
auto with_dtype(const std::string& dtype, const char* operation, const F& f) {
  if (dtype == "float32") return f(static_cast<float*>(nullptr));
  if (dtype == "float64") return f(static_cast<double*>(nullptr));
  fail(operation, "got dtype '" + dtype + "', expected 'float32' or 'float64'");
}

// An array's shape in a message; formatted only if the message is needed.
struct shape_of {
  const py::array& a;
  friend std::ostream& operator<<(std::ostream& out, const shape_of& shape) {
    const std::vector<int64_t> dims(shape.a.shape(), shape.a.shape() + shape.a.ndim());
    return out << shape_text(dims.data(), int(dims.size()));
  }
};

inline py::array as_array(const py::handle& object, const char* operation, const char* name) {
  if (!py::isinstance<py::array>(object))
    throw TypeMismatch(operation, std::string(name) + " is a " +
                                      std::string(py::str(py::type::of(object).attr("__name__"))) +
                                      ", expected a numpy array; convert it with np.asarray");
  return py::reinterpret_borrow<py::array>(object);
}

// py::array's default constructor allocates an empty array, which takes longer than a small step.
inline py::array no_array() { return py::reinterpret_steal<py::array>(py::handle()); }

// Uninitialised. py::array_t's constructor builds vectors first, which takes longer than a small step.
template <class T>
py::array new_array(const int64_t* shape, size_t axes) {
  constexpr size_t kMostAxes = 3;
  Py_intptr_t dims[kMostAxes] = {};
  std::copy_n(shape, std::min(axes, kMostAxes), dims);
  auto& numpy = py::detail::npy_api::get();
  PyObject* type = numpy.PyArray_DescrFromType_(py::dtype::num_of<T>());
  PyObject* made =
      numpy.PyArray_NewFromDescr_(numpy.PyArray_Type_, type, int(axes), dims, nullptr, nullptr, 0, nullptr);
  if (!made) throw py::error_already_set();
  return py::reinterpret_steal<py::array>(made);
}
template <class T>
py::array new_array(std::initializer_list<int64_t> shape) {
  return new_array<T>(shape.begin(), shape.size());
}
template <class T>
py::array new_array(const std::vector<int64_t>& shape) {
  return new_array<T>(shape.data(), shape.size());
}

// The variable of "state h" is h.
inline std::string code(const std::string& label) { return label.substr(label.rfind(' ') + 1); }

inline std::string dtype_text(const py::array& a) { return std::string(py::str(a.dtype())); }

// Flags for the copy of an array that cannot be used directly; pybind11's own flags accept misaligned data.
constexpr int kPlain = py::array::c_style | py::array::forcecast | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
// Always a copy: other threads may write to the caller's array while the GIL is released, after the checks.
constexpr int kPrivate = kPlain | 0x20;  // NPY_ARRAY_ENSURECOPY

template <class T>
bool is_of(const py::array& a) {
  return a.dtype().num() == py::dtype::num_of<T>() && a.dtype().byteorder() != '>';
}

// `a`, of T, aligned and contiguous along its last axis; a copy if it is not. Uses array_t's constructor, which raises
// MemoryError when memory runs out, whereas ensure() returns a null array.
template <class T>
py::array readable(const py::array& a) {
  const ptrdiff_t n = a.ndim(), item = sizeof(T);
  bool direct = n == 0 || a.shape(n - 1) <= 1 || a.strides(n - 1) == item;
  direct = direct && reinterpret_cast<uintptr_t>(a.data()) % sizeof(T) == 0;
  for (ptrdiff_t i = 0; i + 1 < n; ++i) direct = direct && a.strides(i) % item == 0;
  return direct ? a : py::array_t<T, kPlain>(a);
}

// An array of exactly T.
template <class T>
py::array floats(const py::handle& object, const char* operation, const char* name) {
  const py::array a = as_array(object, operation, name);
  if (!is_of<T>(a))
    throw TypeMismatch(operation, std::string(name) + " has dtype " + dtype_text(a) + ", expected " + dtype_name<T>() +
                                      "; convert it with " + code(name) + ".astype(np." + dtype_name<T>() + ")");
  return readable<T>(a);
}

// The numbers of a writable flat array of `size`, used in place.
template <class T>
T* writable_flat(const py::object& object, ptrdiff_t size, const char* operation, const char* name) {
  py::array a = floats<T>(object, operation, name);
  check(a.ndim() == 1 && a.shape(0) == size, operation, name, " has shape ", shape_of{a}, ", expected (", size, ",)");
  check(a.ptr() == object.ptr() && a.writeable(), operation, name, " must be writable and contiguous");
  return static_cast<T*>(a.mutable_data());
}

// A private copy: integers are range-checked, then used as indices. Of numbers above those of int64 it has the largest,
// as a conversion would make them negative.
inline py::array integers(const py::handle& object, const char* operation, const char* name) {
  py::array a = as_array(object, operation, name);
  const char kind = a.dtype().kind();
  if (kind != 'i' && kind != 'u')
    throw TypeMismatch(operation, std::string(name) + " has dtype " + dtype_text(a) + ", expected integers");
  if (kind == 'u' && a.itemsize() == sizeof(int64_t))
    a = py::module_::import("numpy").attr("minimum")(a, py::int_(std::numeric_limits<int64_t>::max()));
  return py::array_t<int64_t, kPrivate>(a);
}

inline void check_dims(const py::array& a, const int64_t* expected, size_t rank, const char* operation,
                       const char* name) {
  if (a.ndim() == ptrdiff_t(rank) && std::equal(expected, expected + rank, a.shape())) return;
  check(false, operation, name, " has shape ", shape_of{a}, ", expected ", shape_text(expected, int(rank)));
}
inline void check_shape(const py::array& a, std::initializer_list<int64_t> expected, const char* operation,
                        const char* name) {
  check_dims(a, expected.begin(), expected.size(), operation, name);
}
inline void check_shape(const py::array& a, const std::vector<int64_t>& expected, const char* operation,
                        const char* name) {
  check_dims(a, expected.data(), expected.size(), operation, name);
}

// Axes (row, step, feature), or (row, feature) as one step.
template <class T>
Sequence<T> sequence_of(const py::array& a, bool time_major = false) {
  const auto stride = [&](ptrdiff_t axis) { return a.strides(axis) / ptrdiff_t(sizeof(T)); };
  auto* data = static_cast<T*>(const_cast<void*>(a.data()));
  if (a.ndim() == 2) return {data, stride(0), stride(0)};
  return {data, stride(time_major ? 1 : 0), stride(time_major ? 0 : 1)};
}

// A view of memory that `owner` keeps alive.
template <class T, class Owner>
py::array view(const std::vector<int64_t>& shape, T* data, const std::shared_ptr<Owner>& owner, bool writable) {
  auto* kept = new std::shared_ptr<Owner>(owner);
  py::capsule base(kept, [](void* p) { delete static_cast<std::shared_ptr<Owner>*>(p); });
  py::array_t<T> a(shape, data, base);
  if (!writable) py::detail::array_proxy(a.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  return a;
}

// A private copy of (N,) lengths, each within [0, steps]; None for None.
inline py::object checked_lengths(const py::handle& object, ptrdiff_t rows, ptrdiff_t steps, const char* operation) {
  if (object.is_none()) return py::none();
  const py::array a = integers(object, operation, "lengths");
  check_shape(a, {rows}, operation, "lengths");
  const auto* values = static_cast<const int64_t*>(a.data());
  for (ptrdiff_t i = 0; i < rows; ++i)
    check(values[i] >= 0 && values[i] <= steps, operation, "lengths[", i, "] is ", values[i], ", expected 0 to ", steps,
          ", the number of steps in the batch");
  return a;
}

bool on_main_thread();  // Python's main thread

// Calls with more work than this release the GIL.
constexpr double kReleaseWork = 3e5;
inline bool is_short(double work) { return work <= kReleaseWork && !are_stops_eager(); }

// Polled by Stop: whether a signal handler has raised.
bool handler_raised(void*);

// Runs f(stop) with subnormals flushed; a long call runs without the GIL and polls for Ctrl-C, which it raises.
template <class F>
void run_native(double work, const F& f) {
  if (is_short(work)) {
    const FlushScope flush;
    f(static_cast<Stop*>(nullptr));
    return;
  }
  // Only Python's main thread handles signals. Any other thread would take the GIL for nothing, and in a finalising
  // interpreter that would terminate the thread in the middle of the call.
  Stop stop(on_main_thread() ? handler_raised : nullptr, nullptr);
  try {
    without_gil([&] {
      const FlushScope flush;
      f(&stop);
    });
  } catch (const Interrupted&) {
    if (!PyErr_Occurred())
      PyErr_SetString(PyExc_RuntimeError, "recurra: the call was interrupted here by a fork() inside it");
    throw py::error_already_set();
  }
}

}  // namespace recurra::bindings

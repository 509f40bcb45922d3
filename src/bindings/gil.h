// Native code without Python's lock.
#pragma once
#include <pybind11/pybind11.h>

#ifdef __GLIBCXX__
#include <cxxabi.h>
#endif

#include <exception>

#include "platform/clock.h"

namespace recurra::bindings {

// Takes the lock back. An interpreter that ends keeps it; before 3.14 it then unwinds the stack of a daemon thread,
// whose destructors would let go of Python's objects without the lock. The thread stays here instead, as with 3.14.
inline void restore(PyThreadState* thread) {
#ifdef __GLIBCXX__
  try {
    PyEval_RestoreThread(thread);
  } catch (const abi::__forced_unwind&) {
    while (true) nap(1000000);
  }
#else
  PyEval_RestoreThread(thread);
#endif
}

// Runs f() without the lock; what it throws is thrown with the lock. No guard does this, since no destructor may be
// left by unwinding.
template <class F>
void without_gil(const F& f) {
  std::exception_ptr error;
  PyThreadState* const thread = PyEval_SaveThread();
  try {
    f();
  } catch (const std::exception&) {
    error = std::current_exception();
  }
  restore(thread);
  if (error) std::rethrow_exception(error);
}

}  // namespace recurra::bindings

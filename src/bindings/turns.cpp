#include "bindings/turns.h"

#include <pythread.h>

#include <string>

#include "bindings/weights.h"
#include "platform/fork.h"

namespace recurra::bindings {
namespace {

// Calls of Python functions that must not overlap, such as those that use one optimiser: threads wait for each other.
// Whose turn it is does not depend on bytecodes of Python's, between any of which an exception may come.
class Turns {
 public:
  Turns() = default;

  // As a handle's: an object made by __new__ alone is one that nobody uses.
  static void* operator new(size_t size) { return new (::operator new(size)) Turns(); }
  static void* operator new(size_t, void* place) { return place; }
  static void operator delete(void* place) { ::operator delete(place); }

  // A call inside another on the same thread, as from a signal's handler, would wait for ever.
  py::object run(const std::string& operation, const py::function& f, const py::args& args) {
    check(!is_inside(), operation.c_str(),
          "the optimiser is in use by a call that is under way on this thread, expected calls one after the other; let "
          "a signal's handler, or a schedule, take a note, and act on it after the call");
    return after_others(f, args);
  }

  // For an f() that only reads, and so may run inside such a call.
  py::object read(const py::function& f, const py::args& args) {
    return is_inside() ? f(*args) : after_others(f, args);
  }

 private:
  bool is_inside() const { return busy_ && !turn_.abandoned() && thread_ == PyThread_get_thread_ident(); }

  py::object after_others(const py::function& f, const py::args& args) {
    wait_until([&] { return turn_.take() != Turn::kInUse; });  // of a thread that a fork left behind, it is free
    const struct End {
      Turns& turns;
      ~End() {
        turns.busy_ = false;
        turns.turn_.end();
      }
    } end = {*this};
    busy_ = true;
    thread_ = PyThread_get_thread_ident();
    return f(*args);
  }

  Turn turn_;
  bool busy_ = false;  // under the GIL, as is thread_
  unsigned long thread_ = 0;
};

}  // namespace

void register_turns(py::module_& m) {
  py::class_<Turns> turns(m, "Turns");
  refuse_copies(turns);
  turns.def(py::init<>())
      .def("__call__", &Turns::run, py::arg("operation"), py::arg("function"))
      .def("read", &Turns::read, py::arg("function"));
}

}  // namespace recurra::bindings

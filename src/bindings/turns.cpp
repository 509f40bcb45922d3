#include "bindings/turns.h"

#include <pythread.h>

#include <string>

#include "bindings/weights.h"
#include "platform/fork.h"

namespace recurra::bindings {
namespace {

// A lock for calls of Python functions that must not overlap, such as those that use one optimiser, or one stream that
// threads share. It is taken and released here and not in Python, where an exception may arrive between any two
// bytecodes.
class Turns {
 public:
  Turns() = default;

  // As in Handle: an object made by __new__ alone is an unlocked one.
  static void* operator new(size_t size) { return new (::operator new(size)) Turns(); }
  static void* operator new(size_t, void* place) { return place; }
  static void operator delete(void* place) { ::operator delete(place); }

  // A nested call on the same thread, as from a signal handler, would deadlock, and is refused.
  py::object run(const std::string& operation, const py::function& f, const py::args& args) {
    check(
        !is_inside(), operation.c_str(),
        "the optimiser is in use by another call on this thread, expected one call at a time; let a signal handler, or "
        "a schedule, set a flag, and act on it after the call");
    return after_others(f, args);
  }

  // For an f() that only reads: it may run inside another call.
  py::object read(const py::function& f, const py::args& args) {
    return is_inside() ? f(*args) : after_others(f, args);
  }

  // f(*args) at once, or NotImplemented while another call is under way, be it on this thread.
  py::object attempt(const py::function& f, const py::args& args) {
    if (turn_.take() == Turn::kInUse) return py::reinterpret_borrow<py::object>(Py_NotImplemented);
    const Inside inside(*this);
    return f(*args);
  }

  bool is_inside() const { return busy_ && !turn_.abandoned() && thread_ == PyThread_get_thread_ident(); }

 private:
  // While the turn is taken.
  class Inside {
   public:
    explicit Inside(Turns& turns) : turns_(turns) {
      turns_.busy_ = true;
      turns_.thread_ = PyThread_get_thread_ident();
    }
    ~Inside() {
      turns_.busy_ = false;
      turns_.turn_.end();
    }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;

   private:
    Turns& turns_;
  };

  py::object after_others(const py::function& f, const py::args& args) {
    // A turn held by a thread that a fork left behind counts as free.
    wait_until([&] { return turn_.take() != Turn::kInUse; });
    const Inside inside(*this);
    return f(*args);
  }

  Turn turn_;
  bool busy_ = false;  // guarded by the GIL, as is thread_
  unsigned long thread_ = 0;
};

}  // namespace

void register_turns(py::module_& m) {
  py::class_<Turns> turns(m, "Turns");
  refuse_copies(turns);
  turns.def(py::init<>())
      .def("__call__", &Turns::run, py::arg("operation"), py::arg("function"))
      .def("read", &Turns::read, py::arg("function"))
      .def("attempt", &Turns::attempt, py::arg("function"))
      .def_property_readonly("inside", [](const Turns& self) { return self.is_inside(); });
}

}  // namespace recurra::bindings

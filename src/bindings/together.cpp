#include <pybind11/stl.h>

#include <utility>

#include "bindings/handles.h"
#include "bindings/module.h"
#include "bindings/weights.h"

namespace recurra::bindings {
namespace {

// Runs Python code that advances several streams, all or none, one thread at a time. Locking and undoing happen here
// and not in Python, where an exception may arrive between any two bytecodes.
class Together {
 public:
  Together() = default;
  Together(std::string name, std::vector<StreamHandle> list, std::vector<ParametersHandle> weights)
      : owner_(std::move(name)),
        streams_(std::move(list)),
        weights_(std::move(weights)),
        versions_(versions_of<const Version>(weights_)),
        moves_(streams_.size()) {}

  // As in Handle: an object made by __new__ alone is an empty one.
  static void* operator new(size_t size) { return new (::operator new(size)) Together(); }
  static void* operator new(size_t, void* place) { return place; }
  static void operator delete(void* place) { ::operator delete(place); }

  py::object run(const py::function& f, const py::args& args) {
    struct End {
      Turn& turn;
      ~End() { turn.end(); }
    };
    const Turn::Answer answer = turn_.take();
    check(answer != Turn::kInUse, owner_.c_str(),
          "the stream is in use by a call that is under way; give each thread a stream of its own");
    const End end = {turn_};
    if (answer == Turn::kAbandoned) undo();  // after a fork, what a thread of the parent had begun
    for (size_t i = 0; i < streams_.size(); ++i)
      moves_[i] = streams_[i].visit([](const auto& stream) { return stream->moves(); });
    py::object result;
    bool again = false;
    try {
      read_by_user(versions_, owner_, [&] {
        if (std::exchange(again, true)) undo();
        result = f(*args);
      });
    } catch (...) {
      undo();
      throw;
    }
    return result;
  }

 private:
  void undo() {
    for (size_t i = 0; i < streams_.size(); ++i)
      streams_[i].visit([&](const auto& stream) { stream->undo(moves_[i]); });
  }

  const std::string owner_;
  const std::vector<StreamHandle> streams_;
  const std::vector<ParametersHandle> weights_;
  const std::vector<const Version*> versions_;
  std::vector<uint64_t> moves_;  // of each stream, before the call
  Turn turn_;
};

}  // namespace

void register_together(py::module_& m) {
  py::class_<Together> together(m, "Together");
  refuse_copies(together);
  together
      .def(py::init<std::string, std::vector<StreamHandle>, std::vector<ParametersHandle>>(), py::arg("owner"),
           py::arg("streams"), py::arg("weights"))
      .def("__call__", &Together::run, py::arg("function"));
}

}  // namespace recurra::bindings

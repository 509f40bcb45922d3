#include <pybind11/stl.h>

#include <map>
#include <optional>

#include "bindings/turns.h"

namespace recurra::bindings {
namespace {

// Exceptions of Python handlers, chained by __context__ as nested `finally` blocks would.
class Errors {
 public:
  template <class F>
  bool caught_in(const F& f) {
    try {
      f();
      return false;
    } catch (py::error_already_set& error) {
      if (last_ && last_->value().ptr() != error.value().ptr())
        PyException_SetContext(error.value().ptr(), py::object(last_->value()).release().ptr());
      last_.emplace(std::move(error));
      return true;
    }
  }
  void raise() {
    if (last_) throw py::error_already_set(*last_);
  }

 private:
  std::optional<py::error_already_set> last_;
};

// Restores the handlers that `holder` replaced, unless another was installed since, then calls those whose signals
// `came`. One call: a restored handler that raises meanwhile stops nothing; its exception is raised at the end.
void release_signals(const py::object& holder, const std::map<int, py::object>& handlers, const py::list& came) {
  // `_signal`, as the functions of `signal` are Python code, during which other handlers may run.
  const py::module_ signals = py::module_::import("_signal");
  const py::object set = signals.attr("signal"), get = signals.attr("getsignal"), raise = signals.attr("raise_signal");
  Errors errors;
  for (const auto& [number, handler] : handlers) {
    py::object now = get(number);
    // signal() first runs pending handlers: they may raise, so the call must be repeated, or install a handler.
    for (int tries = 0; now.is(holder) && tries < 1000; ++tries) {
      py::object before = holder;
      errors.caught_in([&] { before = set(number, handler); });
      if (!before.is(holder)) errors.caught_in([&] { set(number, before); });
      now = get(number);
    }
  }
  for (size_t i = 0; i < came.size(); ++i) {  // the calls may append to it
    const py::object number = came[i];
    for (const auto& [own, handler] : handlers) {
      if (!number.equal(py::int_(own))) continue;
      // If the block set the signal to SIG_DFL, raising it could terminate the process.
      const bool handled = PyCallable_Check(py::object(get(number)).ptr()) != 0;
      errors.caught_in([&, &handler = handler] { handled ? raise(number) : handler(number, py::none()); });
    }
  }
  errors.raise();
}

}  // namespace

void register_signals(py::module_& m) {
  m.def("release_signals", &release_signals, py::arg("holder"), py::arg("handlers"), py::arg("came"));
}

}  // namespace recurra::bindings

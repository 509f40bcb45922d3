#include "optim/optim.h"

#include "bindings/handles.h"
#include "bindings/module.h"

namespace recurra::bindings {
namespace {

// The stretch of an optimiser's own buffer that goes with [begin, end); null for None.
template <class T>
T* moments(const py::object& object, const char* operation, const char* name, const Parameters<T>& parameters,
           ptrdiff_t begin) {
  if (object.is_none()) return nullptr;
  py::array a = floats<T>(object, operation, name);
  check_shape(a, {parameters.size()}, operation, name);
  check(a.ptr() == object.ptr() && a.writeable(), operation, name, " must be writable and contiguous");
  return static_cast<T*>(a.mutable_data()) + begin;
}

template <class F>
void step(const ParametersHandle& handle, ptrdiff_t begin, ptrdiff_t end, const char* operation, const F& f) {
  handle.visit([&](const auto& p) {
    check(begin >= 0 && begin <= end && end <= p->size(), operation, "got elements ", begin, " to ", end,
          ", expected a stretch of 0 to ", p->size());
    auto work = f(*p);
    run_native(10 * double(end - begin), [&](Stop*) {
      const WriteLock lock(p->mutex());
      work(p->values() + begin, p->grads() + begin, end - begin);
      p->touch();
    });
  });
}

}  // namespace

void register_optim(py::module_& m) {
  m.def(
      "squared_norm",
      [](const ParametersHandle& handle) {
        return handle.visit([](const auto& p) {
          double norm = 0;
          run_native(double(p->size()), [&](Stop*) {
            const ReadLock lock(p->mutex());
            norm = squared_norm(p->grads(), p->size());
          });
          return norm;
        });
      },
      py::arg("parameters"));
  m.def(
      "sgd_step",
      [](const ParametersHandle& handle, ptrdiff_t begin, ptrdiff_t end, const py::object& velocity, double lr,
         double momentum, bool nesterov, double weight_decay, double scale) {
        step(handle, begin, end, "sgd_step", [&](auto& p) {
          auto* v = moments(velocity, "sgd_step", "velocity", p, begin);
          const SgdOptions options = {lr, momentum, nesterov, weight_decay, scale};
          return [=](auto* values, const auto* grads, ptrdiff_t n) { sgd_step(values, grads, v, n, options); };
        });
      },
      py::arg("parameters"), py::arg("begin"), py::arg("end"), py::arg("velocity"), py::arg("lr"), py::arg("momentum"),
      py::arg("nesterov"), py::arg("weight_decay"), py::arg("scale"));
  m.def(
      "adam_step",
      [](const ParametersHandle& handle, ptrdiff_t begin, ptrdiff_t end, const py::object& first,
         const py::object& second, long count, double lr, double beta1, double beta2, double eps, double weight_decay,
         bool decoupled, double scale) {
        step(handle, begin, end, "adam_step", [&](auto& p) {
          check(count >= 1, "adam_step", "step is ", count, ", expected 1 or more");
          auto* m = moments(first, "adam_step", "m", p, begin);
          auto* v = moments(second, "adam_step", "v", p, begin);
          check(m && v, "adam_step", "m and v are None, expected arrays");
          const AdamOptions options = {count, lr, beta1, beta2, eps, weight_decay, decoupled, scale};
          return [=](auto* values, const auto* grads, ptrdiff_t n) { adam_step(values, grads, m, v, n, options); };
        });
      },
      py::arg("parameters"), py::arg("begin"), py::arg("end"), py::arg("m"), py::arg("v"), py::arg("step"),
      py::arg("lr"), py::arg("beta1"), py::arg("beta2"), py::arg("eps"), py::arg("weight_decay"), py::arg("decoupled"),
      py::arg("scale"));
}

}  // namespace recurra::bindings

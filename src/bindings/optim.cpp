#include "optim/optim.h"

#include <pybind11/stl.h>

#include <array>

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

// lr, weight decay, scale, limit, factor
typedef std::array<double, 5> Rule;

template <class F>
void step(const ParametersHandle& handle, ptrdiff_t begin, ptrdiff_t end, const Rule& rule,
          const char* operation, const F& f) {
  const StepOptions options = {rule[0], rule[1], rule[2], rule[3], rule[4]};
  handle.visit([&](const auto& p) {
    check(begin >= 0 && begin <= end && end <= p->size(), operation, "got elements ", begin, " to ", end,
          ", expected a stretch of 0 to ", p->size());
    auto work = f(*p);
    run_native(10 * double(end - begin), [&](Stop*) {
      const WriteLock lock(p->mutex());
      work(p->values() + begin, p->grads() + begin, end - begin, options);
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
      "clipped_norm",
      [](const ParametersHandle& handle, double scale, double limit) {
        return handle.visit([&](const auto& p) {
          Clipped clipped = {};
          run_native(2 * double(p->size()), [&](Stop*) {
            const ReadLock lock(p->mutex());
            clipped = clipped_norm(p->grads(), p->size(), scale, limit);
          });
          return std::make_pair(clipped.squared_norm, clipped.count);
        });
      },
      py::arg("parameters"), py::arg("scale"), py::arg("limit"));
  m.def(
      "sgd_step",
      [](const ParametersHandle& handle, ptrdiff_t begin, ptrdiff_t end, const Rule& rule, const py::object& velocity,
         double momentum, bool nesterov) {
        step(handle, begin, end, rule, "sgd_step", [&](auto& p) {
          auto* v = moments(velocity, "sgd_step", "velocity", p, begin);
          const SgdOptions own = {momentum, nesterov};
          return [=](auto* values, const auto* grads, ptrdiff_t n, const StepOptions& options) {
            sgd_step(values, grads, v, n, options, own);
          };
        });
      },
      py::arg("parameters"), py::arg("begin"), py::arg("end"), py::arg("rule"), py::arg("velocity"),
      py::arg("momentum"), py::arg("nesterov"));
  m.def(
      "adam_step",
      [](const ParametersHandle& handle, ptrdiff_t begin, ptrdiff_t end, const Rule& rule, const py::object& first,
         const py::object& second, long count, double beta1, double beta2, double eps, bool decoupled) {
        step(handle, begin, end, rule, "adam_step", [&](auto& p) {
          check(count >= 1, "adam_step", "step is ", count, ", expected 1 or more");
          auto* m = moments(first, "adam_step", "m", p, begin);
          auto* v = moments(second, "adam_step", "v", p, begin);
          check(m && v, "adam_step", "m and v are None, expected arrays");
          const AdamOptions own = {count, beta1, beta2, eps, decoupled};
          return [=](auto* values, const auto* grads, ptrdiff_t n, const StepOptions& options) {
            adam_step(values, grads, m, v, n, options, own);
          };
        });
      },
      py::arg("parameters"), py::arg("begin"), py::arg("end"), py::arg("rule"), py::arg("m"), py::arg("v"),
      py::arg("step"), py::arg("beta1"), py::arg("beta2"), py::arg("eps"), py::arg("decoupled"));
  m.def(
      "rmsprop_step",
      [](const ParametersHandle& handle, ptrdiff_t begin, ptrdiff_t end, const Rule& rule, const py::object& square,
         const py::object& mean, const py::object& velocity, double alpha, double eps, double momentum) {
        step(handle, begin, end, rule, "rmsprop_step", [&](auto& p) {
          auto* s = moments(square, "rmsprop_step", "square", p, begin);
          auto* m = moments(mean, "rmsprop_step", "mean", p, begin);
          auto* v = moments(velocity, "rmsprop_step", "velocity", p, begin);
          check(s, "rmsprop_step", "square is None, expected an array");
          const RmspropOptions own = {alpha, eps, momentum};
          return [=](auto* values, const auto* grads, ptrdiff_t n, const StepOptions& options) {
            rmsprop_step(values, grads, s, m, v, n, options, own);
          };
        });
      },
      py::arg("parameters"), py::arg("begin"), py::arg("end"), py::arg("rule"), py::arg("square"), py::arg("mean"),
      py::arg("velocity"), py::arg("alpha"), py::arg("eps"), py::arg("momentum"));
}

}  // namespace recurra::bindings

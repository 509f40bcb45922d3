#include "optim/optim.h"

#include <pybind11/stl.h>

#include <array>
#include <functional>

#include "bindings/handles.h"
#include "bindings/module.h"
#include "device/row_blocks.h"

namespace recurra::bindings {
namespace {

// One optimiser's update of elements [begin, end) of one layer, checked and ready to run.
struct Update {
  double work = 0;
  std::function<void()> run;
  std::vector<py::object> kept;

  // As in Handle: an object made by __new__ alone is an empty one.
  static void* operator new(size_t size) { return new (::operator new(size)) Update(); }
  static void* operator new(size_t, void* place) { return place; }
  static void operator delete(void* place) { ::operator delete(place); }
};

// An optimiser's own buffer, of the parameters' size; null for None.
template <class T>
T* moments(Update& update, const py::object& object, const char* operation, const char* name,
           const Parameters<T>& parameters) {
  if (object.is_none()) return nullptr;
  T* const data = writable_flat<T>(object, parameters.size(), operation, name);
  update.kept.push_back(object);
  return data;
}

// lr, weight decay, scale, limit, factor
typedef std::array<double, 5> Rule;

// f(update, parameters) checks the buffers and returns work(begin, n, options), which updates n elements.
template <class F>
Update make_update(const ParametersHandle& handle, ptrdiff_t begin, ptrdiff_t end, const Rule& rule,
                   const char* operation, const F& f) {
  const StepOptions options = {rule[0], rule[1], rule[2], rule[3], rule[4]};
  Update update = {};
  handle.visit([&](const auto& p) {
    check(begin >= 0 && begin <= end && end <= p->size(), operation, "got elements ", begin, " to ", end,
          ", expected a range within 0 to ", p->size());
    const auto work = f(update, *p);
    update.work = 10 * double(end - begin);
    update.run = [p = p, work, begin, end, options] {
      const WriteLock lock(p->mutex());
      if (TouchedRows* const touched = p->touched()) {
        const std::vector<int64_t>& rows = touched->rows();
        const ptrdiff_t size = touched->row_size();
        for_row_blocks(rows.data(), ptrdiff_t(rows.size()), size,
                       [&](ptrdiff_t, int64_t row) { work(row * size, size, options); });
      } else {
        work(begin, end - begin, options);
      }
      p->touch();
    };
  });
  return update;
}

Update sgd_update(const ParametersHandle& handle, ptrdiff_t begin, ptrdiff_t end, const Rule& rule,
                  const py::object& velocity, double momentum, bool nesterov) {
  return make_update(handle, begin, end, rule, "sgd_update", [&](Update& update, auto& p) {
    auto* v = moments(update, velocity, "sgd_update", "velocity", p);
    const SgdOptions own = {momentum, nesterov};
    return [=, &p](ptrdiff_t at, ptrdiff_t n, const StepOptions& options) {
      sgd_step(p.device(), p.values() + at, p.grads() + at, v ? v + at : nullptr, n, options, own);
    };
  });
}

Update adam_update(const ParametersHandle& handle, ptrdiff_t begin, ptrdiff_t end, const Rule& rule,
                   const py::object& first, const py::object& second, long count, double beta1, double beta2,
                   double eps, bool bare_eps, bool decoupled) {
  check(count >= 1, "adam_update", "step is ", count, ", expected 1 or more");
  return make_update(handle, begin, end, rule, "adam_update", [&](Update& update, auto& p) {
    auto* m = moments(update, first, "adam_update", "m", p);
    auto* v = moments(update, second, "adam_update", "v", p);
    check(m && v, "adam_update", "m and v are None, expected arrays");
    const AdamOptions own = {count, beta1, beta2, eps, bare_eps, decoupled};
    return [=, &p](ptrdiff_t at, ptrdiff_t n, const StepOptions& options) {
      adam_step(p.device(), p.values() + at, p.grads() + at, m + at, v + at, n, options, own);
    };
  });
}

Update rmsprop_update(const ParametersHandle& handle, ptrdiff_t begin, ptrdiff_t end, const Rule& rule,
                      const py::object& square, const py::object& mean, const py::object& velocity, double alpha,
                      double eps, double momentum) {
  return make_update(handle, begin, end, rule, "rmsprop_update", [&](Update& update, auto& p) {
    auto* s = moments(update, square, "rmsprop_update", "square", p);
    auto* m = moments(update, mean, "rmsprop_update", "mean", p);
    auto* v = moments(update, velocity, "rmsprop_update", "velocity", p);
    check(s, "rmsprop_update", "square is None, expected an array");
    const RmspropOptions own = {alpha, eps, momentum};
    return [=, &p](ptrdiff_t at, ptrdiff_t n, const StepOptions& options) {
      rmsprop_step(p.device(), p.values() + at, p.grads() + at, s + at, m ? m + at : nullptr, v ? v + at : nullptr, n,
                   options, own);
    };
  });
}

Update adagrad_update(const ParametersHandle& handle, ptrdiff_t begin, ptrdiff_t end, const Rule& rule,
                      const py::object& square, double eps) {
  return make_update(handle, begin, end, rule, "adagrad_update", [&](Update& update, auto& p) {
    auto* s = moments(update, square, "adagrad_update", "square", p);
    check(s, "adagrad_update", "square is None, expected an array");
    const AdagradOptions own = {eps};
    return [=, &p](ptrdiff_t at, ptrdiff_t n, const StepOptions& options) {
      adagrad_step(p.device(), p.values() + at, p.grads() + at, s + at, n, options, own);
    };
  });
}

// Runs all updates, then writes `attributes` into `owner`. One call, so that a signal handler, or an exception between
// two bytecodes, finds a step done or not begun.
void run_updates(const std::vector<const Update*>& updates, const py::dict& owner, const py::dict& attributes) {
  double work = 0;
  for (const Update* update : updates) {
    check(update && update->run, "run_updates",
          "got None or an empty update, expected what sgd_update or a similar function returned");
    work += update->work;
  }
  run_native(work, [&](Stop*) {
    for (const Update* update : updates) update->run();
  });
  if (PyDict_Update(owner.ptr(), attributes.ptr()) != 0) throw py::error_already_set();
}

py::tuple norm_of(const ParametersHandle& handle, double scale, double limit) {
  return handle.visit([&](const auto& p) {
    Norm norm = {};
    run_native(2 * double(p->size()), [&](Stop*) {
      const WriteLock lock(p->mutex());  // rows() may sort
      if (TouchedRows* const touched = p->touched()) {
        const std::vector<int64_t>& rows = touched->rows();
        norm = gradient_norm(p->device(), p->grads(), touched->row_size(), scale, limit, rows.data(),
                             ptrdiff_t(rows.size()));
      } else {
        norm = gradient_norm(p->device(), p->grads(), p->size(), scale, limit, nullptr, 0);
      }
    });
    return py::make_tuple(norm.sum, norm.exponent, norm.count);
  });
}

}  // namespace

void register_optim(py::module_& m) {
  py::class_<Update> type(m, "Update");
  refuse_copies(type);
  m.def("gradient_norm", &norm_of, py::arg("parameters"), py::arg("scale"), py::arg("limit"));
  m.def("sgd_update", &sgd_update, py::arg("parameters"), py::arg("begin"), py::arg("end"), py::arg("rule"),
        py::arg("velocity"), py::arg("momentum"), py::arg("nesterov"));
  m.def("adam_update", &adam_update, py::arg("parameters"), py::arg("begin"), py::arg("end"), py::arg("rule"),
        py::arg("m"), py::arg("v"), py::arg("step"), py::arg("beta1"), py::arg("beta2"), py::arg("eps"),
        py::arg("bare_eps"), py::arg("decoupled"));
  m.def("rmsprop_update", &rmsprop_update, py::arg("parameters"), py::arg("begin"), py::arg("end"), py::arg("rule"),
        py::arg("square"), py::arg("mean"), py::arg("velocity"), py::arg("alpha"), py::arg("eps"), py::arg("momentum"));
  m.def("adagrad_update", &adagrad_update, py::arg("parameters"), py::arg("begin"), py::arg("end"), py::arg("rule"),
        py::arg("square"), py::arg("eps"));
  m.def("run_updates", &run_updates, py::arg("updates"), py::arg("owner"), py::arg("attributes"));
}

}  // namespace recurra::bindings

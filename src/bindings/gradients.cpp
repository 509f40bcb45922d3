// Gradients in buffers that the caller chose, and what is added to gradients in one call: all or none, even if an
// exception arrives between two bytecodes.
#include "bindings/gradients.h"

#include <functional>

#include "bindings/module.h"
#include "bindings/weights.h"

namespace recurra::bindings {
namespace {

// Parameters and their flat gradients.
typedef std::vector<std::pair<const ParametersHandle*, py::object>> Own;

struct Addition {
  double work;
  std::function<void()> run;
};

GradientHandle make_gradient(const ParametersHandle& parameters, const py::object& array) {
  return parameters.visit([&](const auto& p) -> GradientHandle {
    typedef RECURRA_TYPE_OF(p) T;
    if (array.is_none()) return {std::make_shared<GradientBuffer<T>>(p)};
    return {std::make_shared<GradientBuffer<T>>(p, writable_flat<T>(array, p->size(), "Gradient", "the array"))};
  });
}

template <class T>
py::object touched_rows(const GradientBuffer<T>& buffer) {
  TouchedRows* const touched = buffer.gradient().touched();
  if (!touched) return py::none();
  const WriteLock lock(buffer.gradient().mutex());  // rows() may sort
  const std::vector<int64_t>& rows = touched->rows();
  py::array made = new_array<int64_t>({int64_t(rows.size())});
  std::copy(rows.begin(), rows.end(), static_cast<int64_t*>(made.mutable_data()));
  return made;
}

// Of a sparse gradient, the rows that are not zero become the touched rows.
template <class T>
void assign_gradient(const GradientBuffer<T>& buffer, const std::string& name, const py::object& object) {
  const auto& entry = buffer.parameters()->entry(name);
  const py::array_t<T, kPlain> packed = like_parameter(*buffer.parameters(), name, object);
  Gradient<T>& gradient = buffer.gradient();
  const WriteLock lock(gradient.mutex());
  T* const to = gradient.data() + entry.begin;
  std::copy_n(static_cast<const T*>(packed.data()), entry.end - entry.begin, to);
  TouchedRows* const touched = gradient.touched();
  if (!touched) return;
  touched->clear();
  const ptrdiff_t size = touched->row_size(), rows = entry.shape[0];
  for (ptrdiff_t row = 0; row < rows; ++row)
    if (std::any_of(to + row * size, to + (row + 1) * size, [](T g) { return g != T(0); })) touched->add(row);
}

template <class T>
Addition flat_addition(const std::shared_ptr<Parameters<T>>& parameters, const py::object& object,
                       const GradientBuffers<T>* to, std::vector<py::object>& kept) {
  const py::array_t<T, kPlain> flat(floats<T>(object, "add_gradients", "the gradient"));
  check_shape(flat, {parameters->size()}, "add_gradients", "the gradient");
  check(!parameters->touched(), "add_gradients", "got sparse parameters, expected those of a layer written in Python");
  Gradient<T>* const gradient = find_gradient(to, *parameters);
  check(gradient != nullptr, "add_gradients", "got gradients without those of a layer, expected all");
  kept.push_back(flat);
  return {double(parameters->size()), [parameters, gradient, from = flat.data()] {
            const WriteLock lock(gradient->mutex());
            gradient->add(from);
          }};
}

// Of tapes whose backward has not committed, and flat ones, to `to` or, without it, the parameters' own.
void add_gradients(const std::vector<const TapeHandle*>& tapes, const Own& own,
                   const std::optional<GradientHandles>& to) {
  for (const auto& pair : own) check(pair.first != nullptr, "add_gradients", "got None as parameters");
  for (const TapeHandle* tape : tapes) check(tape != nullptr, "add_gradients", "got None as a tape");
  const std::pair buffers(read_buffers<float>(to, "add_gradients"), read_buffers<double>(to, "add_gradients"));
  const auto of = [&](const auto& object) {
    return to ? &std::get<GradientBuffers<RECURRA_TYPE_OF(object)>>(buffers) : nullptr;
  };
  std::vector<py::object> kept;
  std::vector<Addition> additions;
  for (const auto& [handle, flat] : own)
    additions.push_back(
        handle->visit([&, &array = flat](const auto& p) { return flat_addition(p, array, of(p), kept); }));
  double work = 0;
  for (const Addition& addition : additions) work += addition.work;
  for (const TapeHandle* handle : tapes)
    handle->visit([&](const auto& tape) {
      tape->check_pending(of(tape));
      work += tape->work();
    });
  run_native(work, [&](Stop*) {
    for (const TapeHandle* handle : tapes) handle->visit([&](const auto& tape) { tape->commit(of(tape)); });
    for (const Addition& addition : additions) addition.run();
  });
}

template <class T>
Addition addition_of(const std::shared_ptr<GradientBuffer<T>>& to, const GradientHandle& handle) {
  const auto* from = handle.get<T>();
  check(from && (*from)->parameters()->size() == to->parameters()->size() &&
            !(*from)->gradient().touched() == !to->gradient().touched(),
        "sum_gradients", "got a gradient of other parameters");
  check(&(*from)->gradient() != &to->gradient(), "sum_gradients", "got a gradient to be added to itself");
  return {double(to->parameters()->size()), [to, from = *from] {
            Gradient<T>*first = &to->gradient(), *second = &from->gradient();
            if (std::less<>()(second, first)) std::swap(first, second);  // threads lock in one order
            const WriteLock one(first->mutex()), other(second->mutex());
            to->gradient().add(from->gradient());
          }};
}

// Adds each of `from` to its counterpart in `to`.
void sum_gradients(const GradientHandles& to, const GradientHandles& from) {
  check(to.size() == from.size(), "sum_gradients", "got ", from.size(), " gradients, expected ", to.size());
  std::vector<Addition> additions;
  double work = 0;
  for (size_t i = 0; i < to.size(); ++i) {
    check(to[i] && from[i], "sum_gradients", "got None as a gradient");
    additions.push_back(to[i]->visit([&](const auto& buffer) { return addition_of(buffer, *from[i]); }));
    work += additions.back().work;
  }
  run_native(work, [&](Stop*) {
    for (const Addition& addition : additions) addition.run();
  });
}

// Applies what recording changes in the layers (running statistics), once all tapes are recorded.
void finish_records(const std::vector<const TapeHandle*>& tapes) {
  for (const TapeHandle* tape : tapes) check(tape != nullptr, "finish_records", "got None as a tape");
  run_native(0, [&](Stop*) {
    for (const TapeHandle* handle : tapes) handle->visit([](const auto& tape) { tape->finish(); });
  });
}

}  // namespace

void register_gradients(py::module_& m) {
  py::class_<GradientHandle> type(m, "Gradient");
  refuse_copies(type);
  type.def(py::init(&make_gradient), py::arg("parameters"), py::arg("array") = py::none(), py::keep_alive<1, 3>())
      .def_property_readonly("rows", RECURRA_ASK(GradientHandle, touched_rows(*object)))
      .def(
          "assign",
          [](const GradientHandle& self, const std::string& name, const py::object& array) {
            self.visit([&](const auto& buffer) { assign_gradient(*buffer, name, array); });
          },
          py::arg("name"), py::arg("array"))
      .def("zero", [](const GradientHandle& self) {
        self.visit([](const auto& buffer) {
          const WriteLock lock(buffer->gradient().mutex());
          buffer->gradient().zero();
        });
      });
  m.def("add_gradients", &add_gradients, py::arg("tapes"), py::arg("own"), py::arg("to") = py::none());
  m.def("sum_gradients", &sum_gradients, py::arg("to"), py::arg("more"));
  m.def("finish_records", &finish_records, py::arg("tapes"));
}

}  // namespace recurra::bindings

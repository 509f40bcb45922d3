#include <pybind11/stl.h>

#include "bindings/handles.h"
#include "bindings/module.h"
#include "platform/tasks.h"

namespace recurra::bindings {
namespace {

enum class Which { kValues, kGrads };

py::array whole(const ParametersHandle& handle, Which which, bool writable) {
  return handle.visit([&](const auto& p) -> py::array {
    return view({p->size()}, which == Which::kValues ? p->values() : p->grads(), p, writable);
  });
}

py::array one(const ParametersHandle& handle, const std::string& name, Which which, bool writable) {
  return handle.visit([&](const auto& p) -> py::array {
    const auto& entry = p->entry(name);
    return view(entry.shape, (which == Which::kValues ? p->values() : p->grads()) + entry.begin, p, writable);
  });
}

template <class T>
void assign(Parameters<T>& parameters, const std::string& name, const py::object& object) {
  const auto& entry = parameters.entry(name);
  const std::string operation = "Parameters: '" + name + "'";
  const py::array source = floats<T>(object, operation.c_str(), "the array");
  check_shape(source, entry.shape, operation.c_str(), "the array");
  const py::array_t<T, kPlain> packed(source);
  const WriteLock lock(parameters.mutex());
  std::copy_n(static_cast<const T*>(packed.data()), entry.end - entry.begin, parameters.values() + entry.begin);
  parameters.touch();
}

}  // namespace

void register_parameters(py::module_& m) {
  py::class_<ParametersHandle> type(m, "Parameters");
  refuse_copies(type);
  type.def(py::init(
               [](const std::string& dtype, const std::vector<std::pair<std::string, std::vector<int64_t>>>& specs) {
                 std::vector<ParameterSpec> list;
                 for (const auto& spec : specs) list.push_back({spec.first, spec.second});
                 return with_dtype(dtype, "Parameters", [&](auto* type) {
                   return ParametersHandle{std::make_shared<Parameters<std::remove_pointer_t<decltype(type)>>>(list)};
                 });
               }),
           py::arg("dtype"), py::arg("specs"))
      .def_property_readonly("dtype", [](const ParametersHandle& self) { return self.dtype(); })
      .def_property_readonly("names",
                             [](const ParametersHandle& self) {
                               return self.visit([](const auto& p) {
                                 std::vector<std::string> names;
                                 for (const auto& entry : p->entries()) names.push_back(entry.name);
                                 return names;
                               });
                             })
      .def_property_readonly(
          "size", [](const ParametersHandle& self) { return self.visit([](const auto& p) { return p->size(); }); })
      .def_property_readonly(
          "version",
          [](const ParametersHandle& self) { return self.visit([](const auto& p) { return p->version(); }); })
      .def(
          "shape",
          [](const ParametersHandle& self, const std::string& name) {
            return self.visit([&](const auto& p) { return py::tuple(py::cast(p->entry(name).shape)); });
          },
          py::arg("name"))
      .def(
          "span",
          [](const ParametersHandle& self, const std::string& name) {
            return self.visit([&](const auto& p) { return std::make_pair(p->entry(name).begin, p->entry(name).end); });
          },
          py::arg("name"))
      .def_property_readonly("values", [](const ParametersHandle& self) { return whole(self, Which::kValues, false); })
      .def_property_readonly("grads", [](const ParametersHandle& self) { return whole(self, Which::kGrads, true); })
      .def(
          "value",
          [](const ParametersHandle& self, const std::string& name) { return one(self, name, Which::kValues, false); },
          py::arg("name"))
      .def(
          "writable",
          [](const ParametersHandle& self, const std::string& name) { return one(self, name, Which::kValues, true); },
          py::arg("name"))
      .def(
          "grad",
          [](const ParametersHandle& self, const std::string& name) { return one(self, name, Which::kGrads, true); },
          py::arg("name"))
      .def(
          "assign",
          [](const ParametersHandle& self, const std::string& name, const py::object& array) {
            self.visit([&](const auto& p) { assign(*p, name, array); });
          },
          py::arg("name"), py::arg("array"))
      .def("touch", [](const ParametersHandle& self) { self.visit([](const auto& p) { p->touch(); }); })
      .def("zero_grad", [](const ParametersHandle& self) {
        self.visit([](const auto& p) {
          const WriteLock lock(p->mutex());
          clear(p->grads(), p->size(), threads_to_move(p->size()));
        });
      });
}

}  // namespace recurra::bindings

#include <pybind11/stl.h>

#include <functional>

#include "bindings/handles.h"
#include "bindings/module.h"
#include "bindings/weights.h"
#include "platform/tasks.h"

namespace recurra::bindings {
namespace {

enum class Which { kValues, kGrads };

py::array whole(const ParametersHandle& handle, Which which, bool writable) {
  return handle.visit([&](const auto& p) -> py::array {
    return view({p->size()}, which == Which::kValues ? p->values() : p->grads(), p, writable && !p->touched());
  });
}

py::array one(const ParametersHandle& handle, const std::string& name, Which which, bool writable) {
  return handle.visit([&](const auto& p) -> py::array {
    const auto& entry = p->entry(name);
    // A direct write to a sparse gradient would bypass the list of touched rows.
    writable = writable && (which == Which::kValues || !p->touched());
    return view(entry.shape, (which == Which::kValues ? p->values() : p->grads()) + entry.begin, p, writable);
  });
}

template <class T>
void assign(Parameters<T>& parameters, const std::string& name, const py::object& object) {
  const auto& entry = parameters.entry(name);
  const py::array_t<T, kPlain> packed = like_parameter(parameters, name, object);
  write_whole({&parameters.versions()}, [&] {
    const WriteLock lock(parameters.mutex());
    std::copy_n(static_cast<const T*>(packed.data()), entry.end - entry.begin, parameters.values() + entry.begin);
    parameters.touch();
  });
}

// Writes parameters, then buffers (destination, source); all are checked before the first write. One call, so that an
// exception between two bytecodes finds all of it done or nothing.
void assign_all(const std::vector<std::tuple<const ParametersHandle*, std::string, py::object>>& list,
                const std::vector<std::pair<py::array, py::array>>& buffers) {
  std::vector<std::function<void()>> writes;
  std::vector<py::object> kept;
  double work = 0;
  for (const auto& [handle, name, array] : list) {
    check(handle != nullptr, "assign", "got None as parameters, expected those of a layer");
    handle->visit([&, &name = name, &array = array](const auto& p) {
      const auto packed = like_parameter(*p, name, array);
      const auto& entry = p->entry(name);
      kept.push_back(packed);
      work += double(entry.end - entry.begin);
      writes.push_back([p = p, &entry, from = packed.data()] {
        const WriteLock lock(p->mutex());
        std::copy_n(from, entry.end - entry.begin, p->values() + entry.begin);
        p->touch();
      });
    });
  }
  for (const auto& [to, from] : buffers) {
    check_shape(from, std::vector<int64_t>(to.shape(), to.shape() + to.ndim()), "assign", "a buffer");
    check(to.writeable(), "assign", "a buffer is read-only, expected one that can be written");
    if (!to.dtype().is(from.dtype()) && !to.dtype().equal(from.dtype()))
      throw TypeMismatch("assign", "a buffer has dtype " + dtype_text(to) + ", got " + dtype_text(from));
  }
  run_native(work, [&](Stop*) {
    for (const auto& write : writes) write();
  });
  for (const auto& [to, from] : buffers)
    if (py::detail::npy_api::get().PyArray_CopyInto_(to.ptr(), from.ptr()) != 0) throw py::error_already_set();
}

}  // namespace

void register_parameters(py::module_& m) {
  m.def(
      "read_whole",
      [](const std::vector<ParametersHandle>& weights, const std::string& owner, const py::function& f,
         const py::args& args) {
        py::object result;
        read_by_user(versions_of<const Version>(weights), owner, [&] { result = f(*args); });
        return result;
      },
      py::arg("weights"), py::arg("owner"), py::arg("function"));
  m.def(
      "write_whole",
      [](const std::vector<ParametersHandle>& weights, const py::function& f, const py::args& args) {
        py::object result;
        write_whole(versions_of<Version>(weights), [&] { result = f(*args); });
        return result;
      },
      py::arg("weights"), py::arg("function"));
  m.def("assign", &assign_all, py::arg("arrays"), py::arg("buffers") = py::tuple());
  py::class_<ParametersHandle> type(m, "Parameters");
  refuse_copies(type);
  type.def(py::init(
               [](const std::string& dtype, const std::vector<std::pair<std::string, std::vector<int64_t>>>& specs) {
                 std::vector<ParameterSpec> list;
                 for (const auto& spec : specs) list.push_back({spec.first, spec.second});
                 return with_dtype(dtype, "Parameters", [&](auto* type) {
                   return ParametersHandle{
                       std::make_shared<Parameters<std::remove_pointer_t<decltype(type)>>>(cpu_devices(), list)};
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
      .def("zero_grad",
           [](const ParametersHandle& self) {
             self.visit([](const auto& p) {
               const WriteLock lock(p->mutex());
               p->gradient().zero();
             });
           })
      .def_property_readonly("sparse", [](const ParametersHandle& self) {
        return self.visit([](const auto& p) { return p->touched() != nullptr; });
      });
}

}  // namespace recurra::bindings

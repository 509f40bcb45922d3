// The Python objects of the core. A handle holds its object in float or double; visit() calls back with either.
#pragma once
#include "bindings/arrays.h"
#include "layers/layer.h"
#include "program/stream.h"

namespace recurra::bindings {

template <template <class> class Object>
struct Handle {
  std::variant<std::shared_ptr<Object<float>>, std::shared_ptr<Object<double>>> object;

  // pybind11 takes memory by this operator for an object made by __new__ alone and reads it as a handle: an empty one.
  static void* operator new(size_t size) { return new (::operator new(size)) Handle(); }
  static void* operator new(size_t, void* place) { return place; }
  static void operator delete(void* place) { ::operator delete(place); }

  template <class F>
  auto visit(const F& f) const {
    const auto visitor = [&](const auto& held) {
      if (!held) throw_empty();
      return f(held);
    };
    return std::visit(visitor, object);
  }
  // The object of a dtype; null: it is of the other one.
  template <class T>
  const std::shared_ptr<Object<T>>* get() const {
    const auto* held = std::get_if<std::shared_ptr<Object<T>>>(&object);
    if (held && !*held) throw_empty();
    return held;
  }
  const char* dtype() const {
    return visit([&](const auto&) { return object.index() == 0 ? "float32" : "float64"; });
  }
  [[noreturn]] static void throw_empty() {
    throw TypeMismatch("recurra", "got an object made by __new__ alone, expected one that its class has made: call it");
  }
};

typedef Handle<Parameters> ParametersHandle;
typedef Handle<Layer> LayerHandle;
typedef Handle<Program> ProgramHandle;
typedef Handle<Tape> TapeHandle;
typedef Handle<Stream> StreamHandle;

// A property or method of a handle that asks its object.
#define RECURRA_ASK(Handle, expression) \
  [](const Handle& self) { return self.visit([](const auto& object) { return expression; }); }

// Python's own way would make an object by __new__ alone, or, for protocols 0 and 1, end the process.
template <class Class>
void refuse_copies(Class& type) {
  for (const char* name : {"__reduce__", "__reduce_ex__"})
    type.def(name, [](const py::object& self, const py::args&) -> py::object {
      throw TypeMismatch("recurra",
                         "got " + std::string(py::str(py::type::of(self))) +
                             " of the core, which can be neither pickled nor copied; take the layer, model or "
                             "state that it belongs to");
    });
}

// The type that an object of class template Object was made for.
template <template <class> class Object, class T>
T* type_of(const std::shared_ptr<Object<T>>&) {
  return nullptr;
}
#define RECURRA_TYPE_OF(pointer) std::remove_pointer_t<decltype(type_of(pointer))>

}  // namespace recurra::bindings

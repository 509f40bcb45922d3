// The Python objects of the core. A handle holds an object of float or of double; visit() calls f with it.
#pragma once
#include "bindings/arrays.h"
#include "layers/gradient_buffer.h"
#include "layers/layer.h"
#include "program/stream.h"

namespace recurra::bindings {

template <template <class> class Object>
struct Handle {
  std::variant<std::shared_ptr<Object<float>>, std::shared_ptr<Object<double>>> object;

  // pybind11 allocates with this operator even for an object made by __new__ alone, and then reads it as a handle:
  // constructing here makes that an empty one.
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
  // The object if its dtype is T, else null.
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
    throw TypeMismatch("recurra", "got an object made by __new__ alone, expected an initialised one; call the class");
  }
};

typedef Handle<Parameters> ParametersHandle;
typedef Handle<GradientBuffer> GradientHandle;
typedef Handle<Layer> LayerHandle;
typedef Handle<Program> ProgramHandle;
typedef Handle<Tape> TapeHandle;
typedef Handle<Stream> StreamHandle;

// A getter or method that evaluates `expression` on the handle's object.
#define RECURRA_ASK(Handle, expression) \
  [](const Handle& self) { return self.visit([](const auto& object) { return expression; }); }

// Python's default would make an object by __new__ alone or, with pickle protocols 0 and 1, crash the process.
template <class Class>
void refuse_copies(Class& type) {
  for (const char* name : {"__reduce__", "__reduce_ex__"})
    type.def(name, [](const py::object& self, const py::args&) -> py::object {
      throw TypeMismatch("recurra",
                         "got " + std::string(py::str(py::type::of(self))) +
                             " of the core, which cannot be pickled or copied; pickle or copy the layer, model or "
                             "state that it belongs to");
    });
}

// T of an Object<T>.
template <template <class> class Object, class T>
T* type_of(const std::shared_ptr<Object<T>>&) {
  return nullptr;
}
#define RECURRA_TYPE_OF(pointer) std::remove_pointer_t<decltype(type_of(pointer))>

}  // namespace recurra::bindings

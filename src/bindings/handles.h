// The Python objects of the core. A handle holds its object in float or double; visit() calls back with either.
#pragma once
#include "bindings/arrays.h"
#include "layers/layer.h"
#include "program/stream.h"

namespace recurra::bindings {

template <template <class> class Object>
struct Handle {
  std::variant<std::shared_ptr<Object<float>>, std::shared_ptr<Object<double>>> object;

  template <class F>
  auto visit(const F& f) const {
    return std::visit(f, object);
  }
  const char* dtype() const { return object.index() == 0 ? "float32" : "float64"; }
};

typedef Handle<Parameters> ParametersHandle;
typedef Handle<Layer> LayerHandle;
typedef Handle<Program> ProgramHandle;
typedef Handle<Tape> TapeHandle;
typedef Handle<Stream> StreamHandle;

// The type that an object of class template Object was made for.
template <template <class> class Object, class T>
T* type_of(const std::shared_ptr<Object<T>>&) {
  return nullptr;
}
#define RECURRA_TYPE_OF(pointer) std::remove_pointer_t<decltype(type_of(pointer))>

}  // namespace recurra::bindings

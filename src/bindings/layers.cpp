#include "bindings/handles.h"
#include "bindings/module.h"
#include "layers/dense.h"
#include "layers/dropout.h"
#include "layers/embedding.h"
#include "layers/recurrent.h"

namespace recurra::bindings {
namespace {

// The Python classes differ in their constructors only.
struct PyRecurrent : LayerHandle {};
struct PyDense : LayerHandle {};
struct PyEmbedding : LayerHandle {};
struct PyDropout : LayerHandle {};

template <class Py, template <class> class Native, class... Args>
std::unique_ptr<Py> make(const std::string& dtype, const char* operation, const Args&... args) {
  auto made = std::make_unique<Py>();
  with_dtype(dtype, operation, [&](auto* type) {
    typedef std::remove_pointer_t<decltype(type)> T;
    made->object = std::shared_ptr<Layer<T>>(std::make_shared<Native<T>>(args...));
  });
  return made;
}

}  // namespace

void register_layers(py::module_& m) {
  py::class_<LayerHandle>(m, "Layer")
      .def_property_readonly("dtype", &LayerHandle::dtype)
      .def_property_readonly("parameters", [](const LayerHandle& self) {
        return self.visit([](const auto& layer) { return ParametersHandle{layer->parameters()}; });
      });
  py::class_<PyRecurrent, LayerHandle>(m, "Recurrent")
      .def(py::init([](const std::string& cell, ptrdiff_t input_size, ptrdiff_t hidden_size, ptrdiff_t num_layers,
                       bool bias, bool bidirectional, double dropout, bool return_sequences, const std::string& dtype,
                       ptrdiff_t proj_size, bool peepholes, bool layer_norm, double input_dropout,
                       double recurrent_dropout, double zoneout, double zoneout_cell, double cell_clip) {
             return make<PyRecurrent, Recurrent>(
                 dtype, "Recurrent",
                 RecurrentOptions{cell, input_size, hidden_size, num_layers, bias, bidirectional, dropout,
                                  return_sequences, proj_size, peepholes, layer_norm, input_dropout, recurrent_dropout,
                                  zoneout, zoneout_cell, cell_clip});
           }),
           py::arg("cell"), py::arg("input_size"), py::arg("hidden_size"), py::arg("num_layers") = 1, py::kw_only(),
           py::arg("bias") = true, py::arg("bidirectional") = false, py::arg("dropout") = 0.0,
           py::arg("return_sequences") = true, py::arg("dtype") = "float32", py::arg("proj_size") = 0,
           py::arg("peepholes") = false, py::arg("layer_norm") = false, py::arg("input_dropout") = 0.0,
           py::arg("recurrent_dropout") = 0.0, py::arg("zoneout") = 0.0, py::arg("zoneout_cell") = 0.0,
           py::arg("cell_clip") = 0.0);
  py::class_<PyDense, LayerHandle>(m, "Dense")
      .def(py::init([](ptrdiff_t in_features, ptrdiff_t out_features, bool bias, const std::string& dtype) {
             return make<PyDense, Dense>(dtype, "Dense", in_features, out_features, bias);
           }),
           py::arg("in_features"), py::arg("out_features"), py::kw_only(), py::arg("bias") = true,
           py::arg("dtype") = "float32");
  py::class_<PyEmbedding, LayerHandle>(m, "Embedding")
      .def(py::init([](ptrdiff_t num_embeddings, ptrdiff_t embedding_dim, const std::string& dtype) {
             return make<PyEmbedding, Embedding>(dtype, "Embedding", num_embeddings, embedding_dim);
           }),
           py::arg("num_embeddings"), py::arg("embedding_dim"), py::kw_only(), py::arg("dtype") = "float32");
  py::class_<PyDropout, LayerHandle>(m, "Dropout")
      .def(py::init([](double p, const std::string& dtype) { return make<PyDropout, Dropout>(dtype, "Dropout", p); }),
           py::arg("p"), py::kw_only(), py::arg("dtype") = "float32");
}

}  // namespace recurra::bindings

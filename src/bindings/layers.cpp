#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <tuple>

#include "bindings/conversion.h"
#include "bindings/handles.h"
#include "bindings/module.h"
#include "layers/activation.h"
#include "layers/attention.h"
#include "layers/attention_decoder.h"
#include "layers/attention_pool.h"
#include "layers/batch_norm.h"
#include "layers/conv1d.h"
#include "layers/conv2d.h"
#include "layers/conv_transpose1d.h"
#include "layers/crf.h"
#include "layers/dense.h"
#include "layers/dropout.h"
#include "layers/embedding.h"
#include "layers/group_norm.h"
#include "layers/hopfield.h"
#include "layers/layer_norm.h"
#include "layers/learnt_vector.h"
#include "layers/merge.h"
#include "layers/permute.h"
#include "layers/pool.h"
#include "layers/prelu.h"
#include "layers/recurrent.h"
#include "layers/repeat_vector.h"
#include "layers/reverse.h"
#include "layers/slice.h"
#include "layers/window_pool.h"

namespace recurra::bindings {
namespace {

// The Python classes differ in their constructors only.
struct PyRecurrent : LayerHandle {};
struct PyDense : LayerHandle {};
struct PyEmbedding : LayerHandle {};
struct PyDropout : LayerHandle {};
struct PyAttention : LayerHandle {};
struct PyAttentionDecoder : LayerHandle {};
struct PyAdd : LayerHandle {};
struct PyMultiply : LayerHandle {};
struct PyConcatenate : LayerHandle {};
struct PySubtract : LayerHandle {};
struct PyAverage : LayerHandle {};
struct PyMaximum : LayerHandle {};
struct PyMinimum : LayerHandle {};
struct PyDot : LayerHandle {};
struct PyReverse : LayerHandle {};
struct PySlice : LayerHandle {};
struct PyRepeatVector : LayerHandle {};
struct PyLearntVector : LayerHandle {};
struct PyConv1d : LayerHandle {};
struct PyConvTranspose1d : LayerHandle {};
struct PyConv2d : LayerHandle {};
struct PyPool : LayerHandle {};
struct PyWindowPool1d : LayerHandle {};
struct PyWindowPool2d : LayerHandle {};
struct PyAttentionPool : LayerHandle {};
struct PyLayerNorm : LayerHandle {};
struct PyGroupNorm : LayerHandle {};
struct PyBatchNorm : LayerHandle {};
struct PyActivation : LayerHandle {};
struct PyPermute : LayerHandle {};
struct PyPRelu : LayerHandle {};
struct PyCrf : LayerHandle {};
struct PyHopfield : LayerHandle {};

template <class Py, template <class> class Native, class... Args>
std::unique_ptr<Py> make(const std::string& dtype, const char* operation, const Args&... args) {
  auto made = std::make_unique<Py>();
  with_dtype(dtype, operation, [&](auto* type) {
    typedef std::remove_pointer_t<decltype(type)> T;
    made->object = std::shared_ptr<Layer<T>>(std::make_shared<Native<T>>(cpu_devices(), args...));
  });
  return made;
}

// A layer without options.
template <class Py, template <class> class Native>
void register_plain(py::module_& m, const char* name) {
  py::class_<Py, LayerHandle>(m, name).def(
      py::init([name](const std::string& dtype) { return make<Py, Native>(dtype, name); }), py::kw_only(),
      py::arg("dtype") = "float32");
}

// AttentionPool's weights of the steps of x: (N, T).
template <class T>
py::array attention_weights(const std::shared_ptr<Layer<T>>& layer, const py::object& object,
                            const py::object& lengths) {
  constexpr const char* kName = "AttentionPool.weights";
  const py::array x = numbers<T>(object, kName, "x", true);
  check(x.ndim() == 3 && x.shape(2) == layer->input_size(), kName, "x has shape ", shape_of{x}, ", expected (N, T, ",
        layer->input_size(), ")");
  Batch batch = {x.shape(0), x.shape(1), nullptr, nullptr, 0, 0};
  const py::object valid = checked_lengths(lengths, batch.rows, batch.steps, kName);
  if (!valid.is_none()) batch.lengths = static_cast<const int64_t*>(py::reinterpret_borrow<py::array>(valid).data());
  if (needs_conversion<T>(object)) check_range(object, sequence_of<const T>(x), batch, x.shape(2), false, kName, "x");
  py::array weights = new_array<T>({batch.rows, batch.steps});
  const Sequence<T> to = sequence_of<T>(weights);
  run_native(layer->work() * double(batch.tokens()), [&](Stop* stop) {
    Memory scratch(layer->devices());
    T* pooled = scratch.device.take<T>(size_t(batch.rows * layer->output_size()));
    const Sequence<T> y = {pooled, layer->output_size(), 0};
    const Run run = {layer->devices(), scratch.device, scratch.host, num_threads(), stop, false, {}};
    static_cast<AttentionPool<T>&>(*layer).attend(
        run, {batch, layer->input_size(), {sequence_of<const T>(x), {}}, y, {}, {}}, {to.data, batch.steps, 1});
    if (run.stopped()) throw Interrupted();
    run.device<T>().zero_padding(batch, 1, {to.data, batch.steps, 1});
  });
  return weights;
}

// Whether the loops can run such a cell; the addresses are taken as they come.
void check_own_cell(int columns, std::pair<int, int> input, std::pair<int, int> recurrent,
                    const std::array<signed char, 4>& input_gate, const std::array<signed char, 4>& recurrent_gate,
                    int saved, const std::array<std::vector<std::string>, 4>& parameters) {
  const auto within = [&](std::pair<int, int> range) {
    return range.first >= 0 && range.second >= 0 && range.first <= columns && range.second <= columns - range.first;
  };
  const auto blocks = [](const std::array<signed char, 4>& gates, size_t count) {
    return std::all_of(gates.begin(), gates.end(), [&](signed char gate) { return gate >= -1 && gate < int(count); });
  };
  const auto& [input_weights, hidden_weights, biases, vectors] = parameters;
  if (columns < 1 || columns > kScanColumns || !within(input) || !within(recurrent) || saved < 0 ||
      saved > kScanSaved || biases.size() > input_weights.size() || input_weights.size() > kScanColumns ||
      hidden_weights.size() > kScanColumns || vectors.size() > kScanVectors ||
      !blocks(input_gate, input_weights.size()) || !blocks(recurrent_gate, hidden_weights.size()))
    fail("OwnCell", "got columns, blocks or values beyond what the loops have, expected those of a checked text");
}

void register_recurrent_layers(py::module_& m) {
  // A user's cell: the columns and what feeds them, names of the parameters and of the second state ("": none), and the
  // addresses of the equations, forward and backward, f32 and f64.
  py::class_<OwnCell, std::shared_ptr<OwnCell>> own_cell(m, "OwnCell");
  refuse_copies(own_cell);
  own_cell.def(
      py::init([](const std::string& name, int columns, std::pair<int, int> input, std::pair<int, int> recurrent,
                  const std::array<signed char, 4>& input_gate, const std::array<signed char, 4>& recurrent_gate,
                  int saved, bool reads_input, const std::string& state,
                  std::array<std::vector<std::string>, 4> parameters, const std::array<size_t, 4>& equations) {
        check_own_cell(columns, input, recurrent, input_gate, recurrent_gate, saved, parameters);
        auto cell = std::make_shared<OwnCell>();
        cell->name = name;
        cell->state = state;
        auto& [input_weights, hidden_weights, biases, vectors] = parameters;
        CellInfo& info = cell->info;
        info = {.name = cell->name.c_str(),
                .gates = int(input_weights.size()),
                .groups = columns,
                .saved = saved,
                .has_cell = !state.empty(),
                .stages = hidden_weights.empty() ? 0 : 1,
                .input = {input.first, input.second},
                .recurrent = {{recurrent.first, recurrent.second}, {}},
                .input_gate = {},
                .recurrent_gate = {},
                .scanned = true,
                .vectors = int(vectors.size()),
                .reads_input = reads_input,
                .biased = {int(biases.size()), 0}};
        std::copy(input_gate.begin(), input_gate.end(), info.input_gate);
        std::copy(recurrent_gate.begin(), recurrent_gate.end(), info.recurrent_gate);
        cell->input_weights = std::move(input_weights);
        cell->hidden_weights = std::move(hidden_weights);
        cell->biases = std::move(biases);
        cell->vectors = std::move(vectors);
        std::memcpy(&cell->f32, equations.data(), sizeof cell->f32);
        std::memcpy(&cell->f64, equations.data() + 2, sizeof cell->f64);
        return cell;
      }),
      py::arg("name"), py::arg("columns"), py::arg("input"), py::arg("recurrent"), py::arg("input_gate"),
      py::arg("recurrent_gate"), py::arg("saved"), py::arg("reads_input"), py::arg("state"), py::arg("parameters"),
      py::arg("equations"));
  py::class_<PyRecurrent, LayerHandle>(m, "Recurrent")
      .def(py::init([](const std::string& cell, ptrdiff_t input_size, ptrdiff_t hidden_size, ptrdiff_t num_layers,
                       bool bias, bool bidirectional, double dropout, bool return_sequences, const std::string& dtype,
                       ptrdiff_t proj_size, bool peepholes, bool layer_norm, double input_dropout,
                       double recurrent_dropout, double zoneout, double zoneout_cell, double cell_clip,
                       const std::array<std::tuple<std::string, double, double>, 3>& activations,
                       const std::shared_ptr<OwnCell>& own) {
             const auto activation = [&](size_t i) {
               const auto& [name, alpha, beta] = activations[i];
               return ActivationOption{name, alpha, beta};
             };
             return make<PyRecurrent, Recurrent>(
                 dtype, "Recurrent",
                 RecurrentOptions{cell,          input_size,    hidden_size,       num_layers,    bias,
                                  bidirectional, dropout,       return_sequences,  proj_size,     peepholes,
                                  layer_norm,    input_dropout, recurrent_dropout, zoneout,       zoneout_cell,
                                  cell_clip,     activation(0), activation(1),     activation(2), own});
           }),
           py::arg("cell"), py::arg("input_size"), py::arg("hidden_size"), py::arg("num_layers") = 1, py::kw_only(),
           py::arg("bias") = true, py::arg("bidirectional") = false, py::arg("dropout") = 0.0,
           py::arg("return_sequences") = true, py::arg("dtype") = "float32", py::arg("proj_size") = 0,
           py::arg("peepholes") = false, py::arg("layer_norm") = false, py::arg("input_dropout") = 0.0,
           py::arg("recurrent_dropout") = 0.0, py::arg("zoneout") = 0.0, py::arg("zoneout_cell") = 0.0,
           py::arg("cell_clip") = 0.0,
           py::arg("activations") = std::array<std::tuple<std::string, double, double>, 3>(),
           py::arg("own") = std::shared_ptr<OwnCell>());
  py::class_<PyAttentionDecoder, LayerHandle>(m, "AttentionDecoder")
      .def(py::init([](const std::string& cell, ptrdiff_t input_size, ptrdiff_t hidden_size, ptrdiff_t memory_size,
                       const std::string& attention, ptrdiff_t attention_size, bool input_feeding, bool bias,
                       const std::string& dtype) {
             return make<PyAttentionDecoder, AttentionDecoder>(
                 dtype, "AttentionDecoder",
                 AttentionDecoderOptions{cell, input_size, hidden_size, memory_size, attention, attention_size,
                                         input_feeding, bias});
           }),
           py::arg("cell"), py::arg("input_size"), py::arg("hidden_size"), py::arg("memory_size"), py::kw_only(),
           py::arg("attention"), py::arg("attention_size") = 0, py::arg("input_feeding") = true, py::arg("bias") = true,
           py::arg("dtype") = "float32");
}

void register_retrieval(py::module_& m) {
  py::class_<PyHopfield, LayerHandle>(m, "Hopfield")
      .def(py::init([](ptrdiff_t size, double beta, ptrdiff_t steps, double tolerance, const std::string& dtype) {
             return make<PyHopfield, Hopfield>(dtype, "Hopfield", HopfieldOptions{size, beta, steps, tolerance});
           }),
           py::arg("size"), py::kw_only(), py::arg("beta"), py::arg("steps"), py::arg("tolerance"),
           py::arg("dtype") = "float32");
}

void register_product_layers(py::module_& m) {
  py::class_<PyDense, LayerHandle>(m, "Dense")
      .def(py::init([](ptrdiff_t in_features, ptrdiff_t out_features, bool bias, const std::string& dtype) {
             return make<PyDense, Dense>(dtype, "Dense", in_features, out_features, bias);
           }),
           py::arg("in_features"), py::arg("out_features"), py::kw_only(), py::arg("bias") = true,
           py::arg("dtype") = "float32");
  py::class_<PyEmbedding, LayerHandle>(m, "Embedding")
      .def(py::init([](ptrdiff_t num_embeddings, ptrdiff_t embedding_dim, bool sparse, const std::string& dtype) {
             return make<PyEmbedding, Embedding>(dtype, "Embedding", num_embeddings, embedding_dim, sparse);
           }),
           py::arg("num_embeddings"), py::arg("embedding_dim"), py::kw_only(), py::arg("sparse") = false,
           py::arg("dtype") = "float32");
  py::class_<PyAttention, LayerHandle>(m, "Attention")
      .def(py::init([](const std::string& score, ptrdiff_t query_size, ptrdiff_t memory_size, ptrdiff_t hidden_size,
                       const std::string& dtype) {
             return make<PyAttention, Attention>(dtype, "Attention",
                                                 ScoringOptions{score, query_size, memory_size, hidden_size});
           }),
           py::arg("score"), py::arg("query_size"), py::arg("memory_size"), py::arg("hidden_size") = 0, py::kw_only(),
           py::arg("dtype") = "float32");
  py::class_<PyAttentionPool, LayerHandle>(m, "AttentionPool")
      .def(py::init([](ptrdiff_t features, ptrdiff_t hidden_size, const std::string& dtype) {
             return make<PyAttentionPool, AttentionPool>(dtype, "AttentionPool", features, hidden_size);
           }),
           py::arg("features"), py::arg("hidden_size"), py::kw_only(), py::arg("dtype") = "float32")
      .def(
          "weights",
          [](const PyAttentionPool& self, const py::object& x, const py::object& lengths) {
            return self.visit([&](const auto& layer) { return attention_weights(layer, x, lengths); });
          },
          py::arg("x"), py::arg("lengths") = py::none());
}

void register_window_layers(py::module_& m) {
  py::class_<PyWindowPool1d, LayerHandle>(m, "WindowPool1d")
      .def(py::init([](const std::string& mode, ptrdiff_t kernel_size, ptrdiff_t stride, const std::string& padding,
                       ptrdiff_t features, const std::string& dtype) {
             return make<PyWindowPool1d, WindowPool1d>(dtype, "WindowPool1d",
                                                       WindowPoolOptions{mode, kernel_size, stride, padding, features});
           }),
           py::arg("mode"), py::arg("kernel_size"), py::kw_only(), py::arg("stride") = 1, py::arg("padding") = "valid",
           py::arg("features") = 0, py::arg("dtype") = "float32");
  py::class_<PyConv1d, LayerHandle>(m, "Conv1d")
      .def(py::init([](ptrdiff_t in_channels, ptrdiff_t out_channels, ptrdiff_t kernel_size, ptrdiff_t stride,
                       ptrdiff_t dilation, ptrdiff_t groups, const std::string& padding, bool bias,
                       const std::string& dtype) {
             return make<PyConv1d, Conv1d>(
                 dtype, "Conv1d",
                 Conv1dOptions{in_channels, out_channels, kernel_size, stride, dilation, groups, padding, bias});
           }),
           py::arg("in_channels"), py::arg("out_channels"), py::arg("kernel_size"), py::kw_only(),
           py::arg("stride") = 1, py::arg("dilation") = 1, py::arg("groups") = 1, py::arg("padding") = "causal",
           py::arg("bias") = true, py::arg("dtype") = "float32");
  py::class_<PyConvTranspose1d, LayerHandle>(m, "ConvTranspose1d")
      .def(py::init([](ptrdiff_t in_channels, ptrdiff_t out_channels, ptrdiff_t kernel_size, ptrdiff_t stride,
                       ptrdiff_t padding, ptrdiff_t output_padding, ptrdiff_t dilation, ptrdiff_t groups, bool bias,
                       const std::string& dtype) {
             return make<PyConvTranspose1d, ConvTranspose1d>(
                 dtype, "ConvTranspose1d",
                 ConvTranspose1dOptions{in_channels, out_channels, kernel_size, stride, dilation, padding,
                                        output_padding, groups, bias});
           }),
           py::arg("in_channels"), py::arg("out_channels"), py::arg("kernel_size"), py::kw_only(),
           py::arg("stride") = 1, py::arg("padding") = 0, py::arg("output_padding") = 0, py::arg("dilation") = 1,
           py::arg("groups") = 1, py::arg("bias") = true, py::arg("dtype") = "float32");
  py::class_<PyPool, LayerHandle>(m, "Pool").def(py::init([](const std::string& mode, const std::string& dtype) {
                                                   return make<PyPool, Pool>(dtype, "Pool", mode);
                                                 }),
                                                 py::arg("mode"), py::kw_only(), py::arg("dtype") = "float32");
}

// Windows of images; the padding is (before, after) of each axis.
ImageOptions image_options(ptrdiff_t channels, ptrdiff_t height, ptrdiff_t width, HeightAndWidth kernel,
                           HeightAndWidth stride, HeightAndWidth dilation,
                           const std::array<HeightAndWidth, 2>& padding) {
  return {channels,
          height,
          width,
          kernel,
          stride,
          dilation,
          {padding[0][0], padding[1][0]},
          {padding[0][1], padding[1][1]}};
}

void register_image_layers(py::module_& m) {
  py::class_<PyConv2d, LayerHandle>(m, "Conv2d")
      .def(py::init([](ptrdiff_t in_channels, ptrdiff_t out_channels, HeightAndWidth kernel_size, ptrdiff_t height,
                       ptrdiff_t width, HeightAndWidth stride, HeightAndWidth dilation,
                       const std::array<HeightAndWidth, 2>& padding, ptrdiff_t groups, bool bias,
                       const std::string& dtype) {
             return make<PyConv2d, Conv2d>(
                 dtype, "Conv2d", image_options(in_channels, height, width, kernel_size, stride, dilation, padding),
                 out_channels, groups, bias);
           }),
           py::arg("in_channels"), py::arg("out_channels"), py::arg("kernel_size"), py::kw_only(), py::arg("height"),
           py::arg("width") = 0, py::arg("stride") = HeightAndWidth{1, 1}, py::arg("dilation") = HeightAndWidth{1, 1},
           py::arg("padding") = std::array<HeightAndWidth, 2>(), py::arg("groups") = 1, py::arg("bias") = true,
           py::arg("dtype") = "float32");
  py::class_<PyWindowPool2d, LayerHandle>(m, "WindowPool2d")
      .def(py::init([](const std::string& mode, HeightAndWidth kernel_size, ptrdiff_t channels, ptrdiff_t height,
                       ptrdiff_t width, HeightAndWidth stride, const std::array<HeightAndWidth, 2>& padding,
                       const std::string& dtype) {
             return make<PyWindowPool2d, WindowPool2d>(
                 dtype, "WindowPool2d", mode,
                 image_options(channels, height, width, kernel_size, stride, {1, 1}, padding));
           }),
           py::arg("mode"), py::arg("kernel_size"), py::kw_only(), py::arg("channels"), py::arg("height"),
           py::arg("width") = 0, py::arg("stride") = HeightAndWidth{1, 1},
           py::arg("padding") = std::array<HeightAndWidth, 2>(), py::arg("dtype") = "float32");
}

void register_norm_layers(py::module_& m) {
  py::class_<PyLayerNorm, LayerHandle>(m, "LayerNorm")
      .def(py::init([](ptrdiff_t features, double eps, bool affine, const std::string& dtype) {
             return make<PyLayerNorm, LayerNorm>(dtype, "LayerNorm", features, eps, affine);
           }),
           py::arg("features"), py::kw_only(), py::arg("eps") = 1e-5, py::arg("affine") = true,
           py::arg("dtype") = "float32");
  py::class_<PyGroupNorm, LayerHandle>(m, "GroupNorm")
      .def(py::init([](ptrdiff_t num_groups, ptrdiff_t num_channels, double eps, bool affine, bool instance,
                       const std::string& dtype) {
             return make<PyGroupNorm, GroupNorm>(dtype, "GroupNorm", num_groups, num_channels, eps, affine, instance);
           }),
           py::arg("num_groups"), py::arg("num_channels"), py::kw_only(), py::arg("eps") = 1e-5,
           py::arg("affine") = true, py::arg("instance") = false, py::arg("dtype") = "float32");
  py::class_<PyBatchNorm, LayerHandle>(m, "BatchNorm")
      .def(py::init(
               [](ptrdiff_t features, double eps, double momentum, bool affine, bool images, const std::string& dtype) {
                 return make<PyBatchNorm, BatchNorm>(dtype, "BatchNorm", features, eps, momentum, affine, images);
               }),
           py::arg("features"), py::kw_only(), py::arg("eps") = 1e-5, py::arg("momentum") = 0.1,
           py::arg("affine") = true, py::arg("images") = false, py::arg("dtype") = "float32")
      .def_property_readonly("running",
                             [](const PyBatchNorm& self) {
                               return self.visit([](const auto& layer) {
                                 typedef RECURRA_TYPE_OF(layer) T;
                                 return ParametersHandle{static_cast<const BatchNorm<T>&>(*layer).running()};
                               });
                             })
      .def_property(
          "frozen",
          [](const PyBatchNorm& self) {
            return self.visit([](const auto& layer) {
              typedef RECURRA_TYPE_OF(layer) T;
              return static_cast<const BatchNorm<T>&>(*layer).frozen();
            });
          },
          [](const PyBatchNorm& self, bool frozen) {
            self.visit([&](const auto& layer) {
              typedef RECURRA_TYPE_OF(layer) T;
              static_cast<BatchNorm<T>&>(*layer).set_frozen(frozen);
            });
          });
}

void register_other_layers(py::module_& m) {
  py::class_<PyDropout, LayerHandle>(m, "Dropout")
      .def(py::init([](double p, const std::string& dtype) { return make<PyDropout, Dropout>(dtype, "Dropout", p); }),
           py::arg("p"), py::kw_only(), py::arg("dtype") = "float32");
  py::class_<PyActivation, LayerHandle>(m, "Activation")
      .def(py::init([](const std::string& name, const std::string& dtype) {
             return make<PyActivation, Activation>(dtype, "Activation", name);
           }),
           py::arg("name"), py::kw_only(), py::arg("dtype") = "float32");
  py::class_<PyPermute, LayerHandle>(m, "Permute")
      .def(py::init([](const std::vector<ptrdiff_t>& shape, const std::vector<ptrdiff_t>& dims,
                       const std::string& dtype) { return make<PyPermute, Permute>(dtype, "Permute", shape, dims); }),
           py::arg("shape"), py::arg("dims"), py::kw_only(), py::arg("dtype") = "float32");
  py::class_<PyPRelu, LayerHandle>(m, "PReLU")
      .def(py::init([](ptrdiff_t num_parameters, const std::string& dtype) {
             return make<PyPRelu, PRelu>(dtype, "PReLU", num_parameters);
           }),
           py::arg("num_parameters"), py::kw_only(), py::arg("dtype") = "float32");
  py::class_<PySlice, LayerHandle>(m, "Slice")
      .def(py::init([](ptrdiff_t start, ptrdiff_t stop, ptrdiff_t step, const std::string& dtype) {
             return make<PySlice, Slice>(dtype, "Slice", start, stop, step);
           }),
           py::arg("start"), py::arg("stop"), py::arg("step") = 1, py::kw_only(), py::arg("dtype") = "float32");
  py::class_<PyRepeatVector, LayerHandle>(m, "RepeatVector")
      .def(py::init([](ptrdiff_t n, const std::string& dtype) {
             return make<PyRepeatVector, RepeatVector>(dtype, "RepeatVector", n);
           }),
           py::arg("n"), py::kw_only(), py::arg("dtype") = "float32");
  py::class_<PyLearntVector, LayerHandle>(m, "LearntVector")
      .def(py::init([](ptrdiff_t features, const std::string& dtype) {
             return make<PyLearntVector, LearntVector>(dtype, "LearntVector", features);
           }),
           py::arg("features"), py::kw_only(), py::arg("dtype") = "float32");
  py::class_<PyCrf, LayerHandle>(m, "CRF").def(
      py::init([](ptrdiff_t num_tags, const std::string& dtype) { return make<PyCrf, Crf>(dtype, "CRF", num_tags); }),
      py::arg("num_tags"), py::kw_only(), py::arg("dtype") = "float32");
}

void register_merge_layers(py::module_& m) {
  register_plain<PyAdd, Add>(m, "Add");
  register_plain<PyMultiply, Multiply>(m, "Multiply");
  register_plain<PyConcatenate, Concatenate>(m, "Concatenate");
  register_plain<PySubtract, Subtract>(m, "Subtract");
  register_plain<PyAverage, Average>(m, "Average");
  register_plain<PyMaximum, Maximum>(m, "Maximum");
  register_plain<PyMinimum, Minimum>(m, "Minimum");
  register_plain<PyDot, Dot>(m, "Dot");
  register_plain<PyReverse, Reverse>(m, "Reverse");
}

}  // namespace

void register_layers(py::module_& m) {
  py::class_<LayerHandle> type(m, "Layer");
  refuse_copies(type);
  type.def_property_readonly("dtype", [](const LayerHandle& self) { return self.dtype(); })
      .def_property_readonly("parameters", [](const LayerHandle& self) {
        return self.visit([](const auto& layer) { return ParametersHandle{layer->parameters()}; });
      });
  register_recurrent_layers(m);
  register_retrieval(m);
  register_product_layers(m);
  register_window_layers(m);
  register_image_layers(m);
  register_norm_layers(m);
  register_other_layers(m);
  register_merge_layers(m);
}

}  // namespace recurra::bindings

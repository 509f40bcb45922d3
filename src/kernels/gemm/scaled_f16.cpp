// Half precision with a scale for each column, which brings its largest magnitude to 1024: the format by which the
// native tests know scales.
#include "kernels/gemm/f16.h"

namespace recurra::RECURRA_ISA {
namespace {

struct ScaledF16 : F16 {
  static constexpr int kLargest = 1024;
};

}  // namespace

RECURRA_STORAGE(scaled_f16, ScaledF16);

}  // namespace recurra::RECURRA_ISA

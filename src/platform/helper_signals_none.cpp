// For systems without signals to threads.
#include "platform/helper_signals.h"

namespace recurra {

struct HelperSignals::Mask {};

HelperSignals::HelperSignals() = default;
HelperSignals::~HelperSignals() = default;

}  // namespace recurra

// For systems without signals to threads.
#include "platform/helper_signals.h"

namespace recurra {

HelperSignals::HelperSignals() : mask_{} {}
HelperSignals::~HelperSignals() = default;

}  // namespace recurra

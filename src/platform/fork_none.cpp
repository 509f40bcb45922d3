// For systems without fork().
#include "platform/fork.h"

namespace recurra {

int at_fork(void (*)(), void (*)(), void (*)()) { return 0; }
uint64_t process_generation() { return 1; }

NoFork::NoFork() = default;
NoFork::~NoFork() = default;

}  // namespace recurra

// For systems that place threads alone.
#include "platform/placement.h"

namespace recurra {

int usable_processors() { return static_cast<int>(std::thread::hardware_concurrency()); }

struct Placement::State {};

Placement::Placement() = default;
Placement::~Placement() = default;
void Placement::of(std::thread&) {}
void Placement::keep_off_mine() {}
void Placement::widen() {}

}  // namespace recurra

// For tests of the state after an interrupted call.
#pragma once

namespace recurra {

// In eager mode calls of any size can be stopped, and every poll() on the thread that constructed the Stop calls `ask`.
void set_eager_stops(bool eager);
bool are_stops_eager();

}  // namespace recurra

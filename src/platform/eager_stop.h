// Stops for tests of what an interrupted call leaves behind.
#pragma once

namespace recurra {

// While on, calls of any size can be stopped, and every poll on the thread that made the Stop asks its function.
void set_eager_stops(bool eager);
bool are_stops_eager();

}  // namespace recurra

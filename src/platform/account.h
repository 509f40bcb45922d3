// Whether threads pay: what calls gain from helpers, and lose by waiting for those that the system keeps from running.
// Read through stays_alone() (parallel.h).
#pragma once

namespace recurra {

constexpr long long kLongWait = 100'000;  // ns; a caller that waited less for its helpers has lost nothing

// Adds a gain and a loss, in ns. When losses prevail, calls stay on their callers for a while.
void book(long long gained, long long lost);

// Ends such a while.
void forgive_losses();

}  // namespace recurra

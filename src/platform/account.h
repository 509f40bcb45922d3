// Do threads pay? Sums the time that calls gain from helper threads and lose waiting for descheduled ones.
// stays_alone() (parallel.h) reads the result.
#pragma once

namespace recurra {

constexpr long long kLongWait = 100'000;  // ns; a shorter wait for helpers is no loss

// Adds a gain and a loss, in ns. When losses prevail, calls run serially on their callers for a while.
void book(long long gained, long long lost);

// Ends the serial period.
void forgive_losses();

}  // namespace recurra

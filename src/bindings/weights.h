// Calls that read weights and changes of weights, from Python: they wait for each other without the GIL.
#pragma once
#include <optional>

#include "bindings/handles.h"
#include "layers/versions.h"
#include "platform/clock.h"

namespace recurra::bindings {

// Until ready(), in naps: whoever is waited for may need the GIL, and Ctrl-C is seen.
template <class F>
void wait_until(const F& ready) {
  for (int64_t us = 20; !ready(); us = std::min<int64_t>(2 * us, 1000)) {
    {
      const py::gil_scoped_release release;
      nap(us);
    }
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }
}

// Runs f() until it has not thrown WeightsMoved. Where writes have come in twice, writers wait.
template <class F>
void read_whole(const std::vector<const Version*>& versions, const F& f) {
  std::optional<HoldOff> hold;
  for (int tries = 1;; ++tries) {
    try {
      return f();
    } catch (const WeightsMoved&) {
    }
    if (tries == 2) hold.emplace(versions);
    wait_until([&] { return are_readable(versions); });
  }
}

// The same for an f() that does not look at versions itself.
template <class F>
void read_checked(const std::vector<const Version*>& versions, const F& f) {
  std::vector<uint64_t> counts(versions.size());
  Seen seen(versions, counts.data());
  read_whole(versions, [&] {
    seen.look();
    f();
    seen.check();
  });
}

// The same for an f() that runs users' code, which may write or wait for writers: these wait for f() for so long only.
// What it writes itself is its own affair, and f() is not called again then.
template <class F>
void read_by_user(const std::vector<const Version*>& versions, const std::string& owner, const F& f) {
  constexpr int kTries = 7;
  std::vector<uint64_t> counts(versions.size());
  Seen seen(versions, counts.data());
  HoldOff::Clock::duration patience = std::chrono::milliseconds(20);
  for (int tries = 1; tries <= kTries; ++tries) {
    std::optional<HoldOff> hold;
    const HoldOff::Clock::time_point begin = HoldOff::Clock::now();
    if (tries > 2) hold.emplace(versions, begin + patience);
    wait_until([&] { return are_readable(versions); });
    const OwnWrites own(versions);
    try {
      seen.look();
      f();
      if (!own.any()) seen.check();
      return;
    } catch (const WeightsMoved&) {
    }
    patience = 2 * std::max(patience, HoldOff::Clock::now() - begin);
  }
  fail(owner.c_str(),
       "got weights that another thread wrote during each of " + std::to_string(kTries) +
           " tries, expected them to stay as they are in one; write them between calls, or, where a layer written in "
           "Python waits for whoever writes them, let it not");
}

// Runs f() as one change of all these.
template <class F>
void write_whole(std::vector<Version*> versions, const F& f) {
  Writing writing(std::move(versions));
  wait_until([&] { return writing.begin(); });
  f();
}

template <class V>
std::vector<V*> versions_of(const std::vector<ParametersHandle>& list) {
  std::vector<V*> versions;
  for (const ParametersHandle& one : list) versions.push_back(one.visit([](const auto& p) { return &p->versions(); }));
  return versions;
}

}  // namespace recurra::bindings

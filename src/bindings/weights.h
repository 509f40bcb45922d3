// Consistent reads and writes of weights: readers and writers wait for each other without the GIL.
#pragma once
#include <optional>

#include "bindings/gil.h"
#include "bindings/handles.h"
#include "layers/versions.h"
#include "platform/clock.h"

namespace recurra::bindings {

// Sleeps until ready(). Releases the GIL, which the other thread may need, and raises on Ctrl-C.
template <class F>
void wait_until(const F& ready) {
  for (int64_t us = 20; !ready(); us = std::min<int64_t>(2 * us, 1000)) {
    without_gil([&] { nap(us); });
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }
}

// Repeats f() until it does not throw WeightsMoved. After the second time, writers have to wait.
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

// The same for an f() that does not check versions itself.
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

// The same for an f() that runs users' code. As that may itself wait for a writer, writers wait only for a bounded
// time, which grows with each try. If f() writes weights itself, it is not repeated.
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
       "another thread wrote weights during each of " + std::to_string(kTries) +
           " tries, expected one without a write; write weights between calls, and let no layer written in Python wait "
           "for the thread that writes them");
}

// Runs f() as one change of all these weights: no reader sees a part of it.
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

// `object` as a contiguous array of the parameter's dtype and shape.
template <class T>
py::array_t<T, kPlain> like_parameter(const Parameters<T>& parameters, const std::string& name,
                                      const py::object& object) {
  const std::string operation = "Parameters: '" + name + "'";
  const py::array source = floats<T>(object, operation.c_str(), "the array");
  check_shape(source, parameters.entry(name).shape, operation.c_str(), "the array");
  return py::array_t<T, kPlain>(source);
}

}  // namespace recurra::bindings

// What a tape in a block says about itself: all that its arrays' places follow from, as words at its beginning.
#pragma once
#include <memory>
#include <vector>

#include "platform/digest.h"
#include "program/program.h"

namespace recurra {

struct Words {
  int64_t* data;
  size_t count;
};

struct TapeFacts {
  uint64_t weights;  // their digest
  uint64_t used;     // bytes of the block
  uint64_t signature;
  RandomRows random;
  uint64_t memory_budget;
  bool training, time_major, state;   // state: whether one was given
  std::vector<int64_t> numbers = {};  // LayerTape::number() of each node

  // For inputs of these sizes. There is always room for lengths, so that a block for dense rows will do for others.
  template <class T>
  static size_t count(const Graph<T>&, const Value<T>* inputs);
  // The inputs' lengths, resets and tokens, too.
  template <class T>
  void write(const Graph<T>&, const Value<T>* inputs, const bool* wanted, Words to) const;
};

// Copied first, then checked: what another thread writes to the block later does not matter.
template <class T>
class ReadFacts {
 public:
  // Throws std::invalid_argument unless the block holds a tape of such a graph.
  ReadFacts(const Graph<T>&, const TapeBlock&);

  TapeFacts facts = {};
  std::vector<Value<T>> inputs;  // features without data
  std::unique_ptr<bool[]> wanted;

 private:
  void read_input(const Graph<T>&, ptrdiff_t input);
  int64_t next();
  bool next_flag() { return next() != 0; }

  const char* name_;
  std::vector<int64_t> words_;
  size_t at_ = 0;
};

// A tape's memory in a block. Throws std::invalid_argument if it is not aligned.
std::unique_ptr<Memory> memory_in(const char* name, const TapeBlock&);

}  // namespace recurra

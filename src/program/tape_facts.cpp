#include "program/tape_facts.h"

#include <algorithm>
#include <cstring>

namespace recurra {
namespace {

constexpr int64_t kMark = 0x3165706174636572;  // "rectape1"
constexpr size_t kFront = 3;                   // mark, digest of all behind it, number of words

// Words of an input: its sizes and flags, lengths, then tokens or resets.
constexpr size_t kSizes = 7;

size_t cells(const Batch& batch) { return size_t(batch.rows) * size_t(batch.steps); }

uint64_t digest_of_facts(const int64_t* words, size_t count) {
  return digest_of(words + 2, (count - 2) * sizeof(int64_t));
}

const char* const kNotATape =
    "got memory that holds no tape, or one that was cut or changed, expected what record left ";

}  // namespace

std::unique_ptr<Memory> memory_in(const char* name, const TapeBlock& block) {
  const size_t beside = reinterpret_cast<uintptr_t>(block.data) % Arena::kAlignment;
  check(beside == 0, name, "got memory that begins ", beside, " bytes behind a multiple of ", Arena::kAlignment,
        ", expected it at such a multiple; take ", Arena::kAlignment, " bytes more and cut off the beginning");
  return std::make_unique<Memory>(Arena::over(block.data, block.size), Arena());
}

template <class T>
size_t TapeFacts::count(const Graph<T>& graph, const Value<T>* inputs) {
  size_t words = kFront + 9 + graph.nodes().size();
  for (ptrdiff_t i = 0; i < graph.inputs(); ++i) {
    const Batch& batch = inputs[i].batch;
    words += kSizes + size_t(batch.rows);
    if (graph.values()[size_t(i)].tokens) words += cells(batch);
    if (batch.reset) words += (cells(batch) + 7) / 8;
  }
  return words;
}

template <class T>
void TapeFacts::write(const Graph<T>& graph, const Value<T>* inputs, const bool* wanted, Words to) const {
  int64_t* at = to.data + kFront;
  const auto put = [&](auto word) { *at++ = int64_t(word); };
  for (const uint64_t word : {weights, used, signature, random.seed, uint64_t(random.first_row), memory_budget})
    put(word);
  for (const bool flag : {training, time_major, state}) put(flag);
  for (const int64_t number : numbers) put(number);
  for (ptrdiff_t i = 0; i < graph.inputs(); ++i) {
    const Value<T>& value = inputs[i];
    const Batch& batch = value.batch;
    for (const ptrdiff_t size : {batch.rows, batch.steps, value.features}) put(size);
    for (const bool flag : {value.vector, batch.lengths != nullptr, batch.reset != nullptr, wanted[i]}) put(flag);
    for (ptrdiff_t r = 0; r < batch.rows; ++r) put(batch.length(r));
    if (graph.values()[size_t(i)].tokens)
      for (ptrdiff_t r = 0; r < batch.rows; ++r)
        for (ptrdiff_t s = 0; s < batch.steps; ++s) put(s < batch.length(r) ? *value.x.tokens.at(r, s) : 0);
    if (!batch.reset) continue;
    const size_t words = (cells(batch) + 7) / 8;
    std::fill_n(at, words, 0);
    auto* marks = reinterpret_cast<uint8_t*>(at);
    for (ptrdiff_t r = 0; r < batch.rows; ++r)
      for (ptrdiff_t s = 0; s < batch.length(r); ++s)
        marks[r * batch.steps + s] = batch.reset[r * batch.reset_row + s * batch.reset_step];
    at += words;
  }
  to.data[0] = kMark;
  to.data[2] = int64_t(to.count);
  to.data[1] = int64_t(digest_of_facts(to.data, to.count));
}

template <class T>
ReadFacts<T>::ReadFacts(const Graph<T>& graph, const TapeBlock& block)
    : wanted(std::make_unique<bool[]>(size_t(graph.inputs()))), name_(graph.name().c_str()) {
  int64_t front[kFront] = {};
  std::memcpy(front, block.data, std::min(block.size, sizeof(front)));
  check(front[0] == kMark && front[2] >= int64_t(kFront) && size_t(front[2]) <= block.size / sizeof(int64_t), name_,
        kNotATape, "there");
  words_.resize(size_t(front[2]));
  std::memcpy(words_.data(), block.data, words_.size() * sizeof(int64_t));
  check(words_[2] == front[2] && uint64_t(words_[1]) == digest_of_facts(words_.data(), words_.size()), name_, kNotATape,
        "there");
  at_ = kFront;
  for (uint64_t* word : {&facts.weights, &facts.used, &facts.signature, &facts.random.seed}) *word = uint64_t(next());
  facts.random.first_row = next();
  facts.memory_budget = uint64_t(next());
  for (bool* flag : {&facts.training, &facts.time_major, &facts.state}) *flag = next_flag();
  check(facts.signature == block.signature, name_,
        "got memory with a tape of another model, or of another version or instruction set, expected one that this "
        "model has recorded; record again");
  check(facts.used <= block.size, name_, "got ", block.size, " bytes of a tape of ", facts.used,
        ", expected all of them");
  for (size_t i = 0; i < graph.nodes().size(); ++i) facts.numbers.push_back(next());
  for (ptrdiff_t i = 0; i < graph.inputs(); ++i) read_input(graph, i);
  check(at_ == words_.size(), name_, kNotATape, "there");
}

template <class T>
int64_t ReadFacts<T>::next() {
  check(at_ < words_.size(), name_, kNotATape, "there");
  return words_[at_++];
}

template <class T>
void ReadFacts<T>::read_input(const Graph<T>& graph, ptrdiff_t i) {
  const auto& info = graph.values()[size_t(i)];
  const auto expect = [&](bool ok) { check(ok, name_, kNotATape, "there, of this model"); };
  Value<T> value = {};
  Batch& batch = value.batch;
  for (ptrdiff_t* size : {&batch.rows, &batch.steps, &value.features}) expect((*size = ptrdiff_t(next())) >= 0);
  value.vector = next_flag();
  const bool lengths = next_flag(), reset = next_flag();
  wanted[size_t(i)] = next_flag();
  graph.check_size(batch, value.features);
  expect(info.tokens ? value.features == 1 : !info.features || value.features == info.features);
  expect(!value.vector || (batch.steps == 1 && info.axis != Axis::kSequence));
  const auto left = [&](size_t words) { expect(words <= words_.size() - at_); };
  left(size_t(batch.rows));
  const int64_t* const all = words_.data() + at_;
  for (ptrdiff_t r = 0; r < batch.rows; ++r)
    expect(all[r] >= 0 && all[r] <= batch.steps && (lengths || all[r] == batch.steps));
  if (lengths) batch.lengths = all;
  at_ += size_t(batch.rows);
  if (info.tokens) {
    left(cells(batch));
    value.x.tokens = {words_.data() + at_, batch.steps, 1};
    for (size_t k = 0; k < cells(batch); ++k) {
      const int64_t token = next();
      expect(token >= 0 && token < info.features);
    }
  }
  if (reset) {
    const size_t words = (cells(batch) + 7) / 8;
    left(words);
    batch.reset = reinterpret_cast<const uint8_t*>(words_.data() + at_);
    batch.reset_row = batch.steps;
    batch.reset_step = 1;
    at_ += words;
  }
  inputs.push_back(value);
}

#define RECURRA_INSTANCES(T)                                                                  \
  template size_t TapeFacts::count(const Graph<T>&, const Value<T>*);                         \
  template void TapeFacts::write(const Graph<T>&, const Value<T>*, const bool*, Words) const; \
  template class ReadFacts<T>;
RECURRA_INSTANCES(float)
RECURRA_INSTANCES(double)
#undef RECURRA_INSTANCES

}  // namespace recurra

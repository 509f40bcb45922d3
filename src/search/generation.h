// Sequences drawn step by step from what a program says of the next one, each sample being the next input.
#pragma once
#include <memory>
#include <vector>

#include "program/step.h"
#include "search/head.h"

namespace recurra {

// What becomes of an input of the program.
struct GenerationInput {
  enum Kind {
    kFed,     // gets the samples of output `head`, after a prompt
    kGiven,   // known beforehand at every step, of the prompt and after it
    kMemory,  // stays the same: what layers attend to
  } kind;
  ptrdiff_t head;
};

struct GenerationOptions {
  std::vector<GenerationInput> inputs;  // of the program
  std::vector<HeadOptions> heads;       // of its outputs
  ptrdiff_t steps;                      // the most to generate
  uint64_t seed;
  std::vector<int64_t> row_ids;  // a row's random numbers depend on the seed, its id and the number of the step
  int64_t first_step;            // the number of the first one
};

// What has been generated. Vectors are (row, step, ...), zeros past the lengths.
template <class T>
struct Generated {
  struct Output {
    std::vector<int64_t> tokens;  // or
    std::vector<T> vectors;
    std::vector<T> log_probs;
  };
  ptrdiff_t steps;  // of the longest row
  std::vector<int64_t> lengths;
  std::vector<Output> outputs;
  ptrdiff_t memory_steps;
  std::vector<T> weights;  // of an attention decoder, (row, step, step of the memory)
};

// The prompt runs as one call, but for each row's last step, which gives the first samples. Rows are independent: a row
// has the same bits in any batch, on any number of threads, and however run() cuts the steps. A row ends with a token
// of its head's `stops`. Not for two threads at once.
template <class T>
class Generation {
 public:
  // `inputs`: over sequences. They, with all that they refer to, must live as long. Throws std::invalid_argument for
  // options that do not fit.
  Generation(std::shared_ptr<Program<T>>, std::vector<Value<T>> inputs, std::vector<T> state, GenerationOptions);
  ~Generation();

  Program<T>& program() const { return *program_; }
  ptrdiff_t rows() const { return rows_; }
  ptrdiff_t steps_done() const { return done_; }
  double work(ptrdiff_t steps) const;  // of a run

  // At most so many steps. Changes nothing if it throws (as Program::forward does), or if the stop is requested.
  void run(ptrdiff_t steps, Stop*);
  ptrdiff_t steps_left() const;       // 0 too if all rows have ended
  bool is_open(ptrdiff_t row) const;  // whether it will go on
  void end(ptrdiff_t row);
  Generated<T> generated(ptrdiff_t from_step = 0) const;
  // After all inputs but the last sample: (rows, state_size).
  std::vector<T> state() const;

 private:
  class Part;

  ptrdiff_t prompt(ptrdiff_t row) const { return first_fed_->batch.length(row); }
  void check_inputs() const;
  void begin(Stop*);
  void run_parts(ptrdiff_t steps, Stop*);
  void read_prompt(std::vector<T>& state, Stop*) const;
  Part& part_of(ptrdiff_t row, ptrdiff_t& within) const;

  const std::shared_ptr<Program<T>> program_;
  const std::vector<Value<T>> inputs_;
  const GenerationOptions options_;
  const std::vector<T> state_;  // before the prompt; empty: zeros
  const Value<T>* first_fed_ = nullptr;
  ptrdiff_t rows_ = 0, done_ = 0;
  std::vector<std::unique_ptr<Part>> parts_;  // of the rows, each on one thread at a time
  int threads_ = 1;
  std::vector<uint64_t> counts_;
  Seen seen_;
};

}  // namespace recurra

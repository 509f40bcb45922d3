// Connectionist temporal classification (Graves et al. 2006): the probability of a target, summed over all paths that
// collapse to it, and its gradient, for one row.
//
// Probabilities of long paths are far below what a floating-point number holds, and a state that is 1e-100 of another
// one may be the one that counts in the end. So each state's probability is a pair m 2^e, with an exponent of its own:
// sums and products take a few multiplications and shifts, where logarithms would take three exponentials and a
// logarithm a state; and their error is relative to the probability, so that it does not grow with the size of a
// logarithm: after 5000 steps in float a logarithm of -20000 would be good to 1e-3. Exponents are kept as numbers of
// the same type, exact up to 2^24 in float: to a probability of e^-11,000,000.
//
// The states of the target l_0 ... l_{S-1}, blank l_0 blank ... l_{S-1} blank, lie in two arrays, the S + 1 blanks and
// the S labels, so that neighbouring states of a kind are neighbouring lanes:
//   label_t[i] = y_t(l_i) (label[i] + blank[i] + label[i - 1] unless l_i = l_{i-1})
//   blank_t[i] = y_t(blank) (blank[i] + label[i - 1])
// with y_t = e^(logits - their largest): its sum is divided out at the end.
#pragma once
#include "kernels/rows/ctc_row_call.h"
#include "kernels/rows/rows.h"

namespace recurra::RECURRA_ISA {
namespace {

constexpr double kImpossible = -1e30;  // the exponent of a probability of 0; adding any other one changes nothing
constexpr double kLeastLogit = -1e6;   // relative to the step's largest; what is less has a probability of 0
constexpr double kLn2 = 0.693147180559945309417;

template <class V>
struct Scaled {
  V m, e;  // m 2^e, e an integer
};

// 2^n for integers n up to the largest exponent; below the least one 2 to that.
template <class V>
RECURRA_INLINE V power_of_two(V n) {
  typedef ExpConstants<Lane<V>> C;
  constexpr double kLeast = 1 - double(C::kOne >> C::kMantissa);
  const V t = max(n, constant<V>(kLeast)) + constant<V>(C::kRound);  // the low bits of t are n
  return bit_cast<V>((bit_cast<IntVec<V>>(t) << C::kMantissa) + C::kOne);
}

template <class V>
RECURRA_INLINE Scaled<V> add(Scaled<V> a, Scaled<V> b) {
  const V e = max(a.e, b.e);
  return {fma(a.m, power_of_two<V>(a.e - e), b.m * power_of_two<V>(b.e - e)), e};
}
template <class V>
RECURRA_INLINE Scaled<V> add(Scaled<V> a, Scaled<V> b, Scaled<V> c) {
  const V e = max(max(a.e, b.e), c.e);
  const V rest = fma(b.m, power_of_two<V>(b.e - e), c.m * power_of_two<V>(c.e - e));
  return {fma(a.m, power_of_two<V>(a.e - e), rest), e};
}

// The product, its m in [1, 2).
template <class V>
RECURRA_INLINE Scaled<V> multiply(Scaled<V> a, Scaled<V> b) {
  typedef ExpConstants<Lane<V>> C;
  typedef IntVec<V> Int;
  constexpr auto kMantissaBits = (decltype(C::kOne)(1) << C::kMantissa) - 1;
  const V round = constant<V>(C::kRound), bias = constant<V>(double(C::kOne >> C::kMantissa));
  const Int bits = bit_cast<Int>(a.m * b.m);
  const V exponent = bit_cast<V>((bits >> C::kMantissa) + bit_cast<Int>(round)) - (round + bias);
  return {bit_cast<V>((bits & kMantissaBits) | C::kOne), a.e + b.e + exponent};
}

// e^x for x <= 0.
template <class V>
RECURRA_INLINE Scaled<V> scaled_exp(V x) {
  const Reduced<V> r = reduce(clamp(x, kLeastLogit, 0));
  return {r.p + constant<V>(1), x < constant<V>(kLeastLogit) ? constant<V>(kImpossible) : r.n};
}

// Where a row's numbers lie in its scratch memory.
template <class T>
struct Lattice {
  static constexpr ptrdiff_t L = kLanes<T>;
  ptrdiff_t width;  // of an array: S + 1, padded to vectors

  explicit Lattice(ptrdiff_t labels) : width((labels + L) / L * L) {}

  // The states at one step. In front of the labels there is room for one that is impossible; behind each array there
  // are finite numbers, which meet no state that counts.
  struct States {
    T *label_e, *blank_e, *label_m, *blank_m;
  };
  ptrdiff_t frame() const { return 4 * width + 2 * L; }
  States states(T* from) const {
    return {from + L, from + L + width, from + 2 * L + 2 * width, from + 2 * L + 3 * width};
  }
  void clear(T* from) const {
    const States s = states(from);
    fill(from, s.label_m - L, T(kImpossible));
    fill(s.label_m - L, from + frame(), T(1));
  }
  static void fill(T* begin, T* end, T value) {
    for (; begin < end; ++begin) *begin = value;
  }

  // In this order: skips, the emitted logits, what each label accounts for, the states of the backward recursion, the
  // largest logits, the states of the forward recursion: all steps' if there is to be a gradient.
  ptrdiff_t fixed() const { return 3 * width + L + frame() + L; }
  ptrdiff_t total(ptrdiff_t steps, bool gradient) const {
    return fixed() + steps + (gradient ? steps + 1 : 2) * frame() + L;
  }
};

template <class T>
ptrdiff_t ctc_scratch(ptrdiff_t steps, ptrdiff_t labels, bool gradient) {
  return Lattice<T>(labels).total(steps, gradient);
}

template <class V>
RECURRA_INLINE Scaled<V> load_scaled(const Lane<V>* m, const Lane<V>* e, ptrdiff_t i) {
  return {load<V>(m + i), load<V>(e + i)};
}
template <class V>
RECURRA_INLINE void store_scaled(Lane<V>* m, Lane<V>* e, ptrdiff_t i, Scaled<V> s) {
  store(m + i, s.m);
  store(e + i, s.e);
}

template <class T>
class CtcRow {
 public:
  explicit CtcRow(const CtcRowCall<T>& call)
      : c_(call),
        lattice_(call.labels),
        skips_(call.scratch),
        emitted_(skips_ + lattice_.width + L),
        occupied_(emitted_ + lattice_.width),
        backward_(occupied_ + lattice_.width),
        largest_(call.scratch + lattice_.fixed()),
        forward_(largest_ + call.steps) {
    for (ptrdiff_t i = 0; i < lattice_.width + L; ++i)
      skips_[i] = i > 0 && i < c_.labels && c_.target[i] != c_.target[i - 1] ? T(0) : T(kImpossible);
    lattice_.fill(emitted_ + c_.labels, emitted_ + lattice_.width, T(kImpossible));
  }

  double run() {
    const double normaliser = forward();
    const States last = frame(c_.steps);
    // The last blank and the last label; in lane 0, the others are not used.
    const Scaled<V> ends = add(load_scaled<V>(last.blank_m, last.blank_e, c_.labels),
                               load_scaled<V>(last.label_m, last.label_e, c_.labels - 1));
    if (c_.stop && c_.stop->requested()) return 0;
    if (ends.e[0] < T(kImpossible / 2) && normaliser == normaliser) return __builtin_inf();
    if (c_.gradient) backward(ends.e[0]);
    return normaliser - log_of(double(ends.m[0])) - double(ends.e[0]) * kLn2;
  }

 private:
  typedef Vec<T> V;
  static constexpr ptrdiff_t L = kLanes<T>;
  typedef typename Lattice<T>::States States;

  States frame(ptrdiff_t k) const { return lattice_.states(forward_ + (c_.gradient ? k : k & 1) * lattice_.frame()); }

  // A long row looks at the clock every million operations or so.
  bool stopped(ptrdiff_t step) const { return c_.stop && step % poll_steps_ == 0 && c_.stop->poll(); }

  // Gathers the logits of the labels; the blank's emission.
  Scaled<V> emit(ptrdiff_t step) {
    const T* x = c_.logits + step * c_.logits_step;
    for (ptrdiff_t i = 0; i < c_.labels; ++i) emitted_[i] = x[c_.target[i]];
    return scaled_exp(broadcast<V>(x[c_.blank] - largest_[step]));
  }
  RECURRA_INLINE Scaled<V> emission(ptrdiff_t i, V largest) const {
    return scaled_exp<V>(load<V>(emitted_ + i) - largest);
  }
  // The states from `i` on, but impossible where the step from the label before is not allowed.
  RECURRA_INLINE Scaled<V> skipped(Scaled<V> s, ptrdiff_t i) const { return {s.m, s.e + load<V>(skips_ + i)}; }

  // Fills the forward states, and the gradient with the softmax; the sum of the logarithms of the softmax's sums.
  double forward() {
    lattice_.clear(forward_);
    frame(0).blank_e[0] = 0;  // before the first step: certainly in front of everything
    double normaliser = 0, product = 1;
    for (ptrdiff_t step = 0; step < c_.steps; ++step) {
      if (stopped(step)) return 0;
      const Softmax<T> frame_softmax = softmax(c_.logits + step * c_.logits_step, c_.symbols,
                                               c_.gradient ? c_.gradient + step * c_.gradient_step : nullptr);
      largest_[step] = frame_softmax.most;
      product *= double(frame_softmax.sum);
      if (product > 1e200) {
        normaliser += log_of(product);
        product = 1;
      }
      const Scaled<V> blank_emission = emit(step);
      const V largest = broadcast<V>(frame_softmax.most);
      const States from = frame(step), to = frame(step + 1);
      store(to.label_e - L, constant<V>(kImpossible));
      store(to.label_m - L, constant<V>(1));
      for (ptrdiff_t i = 0; i < lattice_.width; i += L) {
        const Scaled<V> label = load_scaled<V>(from.label_m, from.label_e, i);
        const Scaled<V> blank = load_scaled<V>(from.blank_m, from.blank_e, i);
        const Scaled<V> before = load_scaled<V>(from.label_m, from.label_e, i - 1);
        store_scaled(to.label_m, to.label_e, i, multiply(add(label, blank, skipped(before, i)), emission(i, largest)));
        store_scaled(to.blank_m, to.blank_e, i, multiply(add(blank, before), blank_emission));
      }
    }
    return normaliser + log_of(product);
  }

  // Subtracts from the softmax the share of the paths that are in each symbol's states. What the backward recursion
  // keeps of a step includes its emission; what it has before that, times the forward states, are the paths' shares.
  void backward(T target_e) {
    lattice_.clear(backward_);
    lattice_.fill(backward_ + lattice_.frame(), backward_ + lattice_.frame() + L, T(1));
    const States b = lattice_.states(backward_);
    b.blank_e[c_.labels] = 0;  // after the last step: certainly behind everything
    for (ptrdiff_t step = c_.steps - 1; step >= 0; --step) {
      if (stopped(step)) return;
      const Scaled<V> blank_emission = emit(step);
      const V largest = broadcast<V>(largest_[step]), total_e = broadcast<V>(target_e);
      const States a = frame(step + 1);
      V in_labels = V{}, in_blanks = V{};
      for (ptrdiff_t i = 0; i < lattice_.width; i += L) {
        const Scaled<V> label = load_scaled<V>(b.label_m, b.label_e, i);
        const Scaled<V> blank = load_scaled<V>(b.blank_m, b.blank_e, i);
        const Scaled<V> next_blank = load_scaled<V>(b.blank_m, b.blank_e, i + 1);
        const Scaled<V> next_label = load_scaled<V>(b.label_m, b.label_e, i + 1);
        const Scaled<V> from_label = add(label, next_blank, skipped(next_label, i + 1));
        const Scaled<V> from_blank = add(blank, label);
        const V share = shares(load_scaled<V>(a.label_m, a.label_e, i), from_label, total_e);
        store(occupied_ + i, share);
        in_labels = in_labels + share;
        in_blanks = in_blanks + shares(load_scaled<V>(a.blank_m, a.blank_e, i), from_blank, total_e);
        store_scaled(b.label_m, b.label_e, i, multiply(from_label, emission(i, largest)));
        store_scaled(b.blank_m, b.blank_e, i, multiply(from_blank, blank_emission));
      }
      const T blanks = sum_lanes(in_blanks);
      // Divided by their own sum, not by the probability: they add up to 1 whatever was rounded on the way.
      const T scale = 1 / (blanks + sum_lanes(in_labels));
      T* gradient = c_.gradient + step * c_.gradient_step;
      gradient[c_.blank] -= blanks * scale;
      for (ptrdiff_t i = 0; i < c_.labels; ++i) gradient[c_.target[i]] -= occupied_[i] * scale;
    }
  }
  static RECURRA_INLINE V shares(Scaled<V> a, Scaled<V> b, V total_e) {
    return a.m * b.m * power_of_two<V>(min(a.e + b.e - total_e, constant<V>(kMostExponent)));
  }
  static constexpr double kMostExponent = 100;  // theory says 1

  const CtcRowCall<T> c_;
  const Lattice<T> lattice_;
  const ptrdiff_t poll_steps_ = 1 + (1 << 20) / (20 * c_.symbols + 60 * lattice_.width);
  T *skips_, *emitted_, *occupied_, *backward_, *largest_, *forward_;
};

// -log of the target's probability, infinity if that is 0; then the gradient is of no use. It is neither if the call
// was stopped.
template <class T>
double ctc_row(const CtcCall<T>& call) {
  return CtcRow<T>(static_cast<const CtcRowCall<T>&>(call)).run();
}

}  // namespace
}  // namespace recurra::RECURRA_ISA

// The layers that are not recurrent, on the CPU: as in Backend, which says what each does.
#pragma once
#include "backend/backend.h"

namespace recurra::cpu {

template <class T>
void convolve(const Run&, const ConvolutionForward<T>&);
template <class T>
void convolve_gradient(const Run&, const ConvolutionBackward<T>&);

template <class T>
void activation(const Run&, const Batch&, ptrdiff_t features, int kind, Sequence<const T> x, Sequence<T> y);
template <class T>
void activation_gradient(const Run&, const Batch&, ptrdiff_t features, int kind, Sequence<const T> x,
                         Sequence<const T> y, Sequence<const T> dy, Sequence<T> dx);

template <class T>
void layer_norm(const Run&, const Batch&, ptrdiff_t features, T eps, const T* gain, const T* shift, Sequence<const T> x,
                Sequence<T> y, Sequence<T> statistics);
template <class T>
void layer_norm_gradient(const Run&, const Batch&, ptrdiff_t features, const T* gain, Sequence<const T> statistics,
                         Sequence<const T> x, Sequence<const T> dy, Sequence<T> dx, T* dgain, T* dshift);

template <class T>
void feature_statistics(const Run&, const Batch&, ptrdiff_t features, Sequence<const T> x, T* mean, T* variance);
template <class T>
void feature_norm(const Run&, const Batch&, ptrdiff_t features, const FeatureNorm<T>&, const T* shift,
                  Sequence<const T> x, Sequence<T> y);
template <class T>
void feature_norm_gradient(const Run&, const Batch&, ptrdiff_t features, const FeatureNorm<T>&, bool of_batch,
                           Sequence<const T> x, Sequence<const T> dy, Sequence<T> dx, T* dgain, T* dshift);

template <class T>
void pool(const Run&, const Batch&, ptrdiff_t features, PoolKind, Sequence<const T> x, Sequence<T> y);
template <class T>
void pool_gradient(const Run&, const Batch&, ptrdiff_t features, PoolKind, Sequence<const T> x, Sequence<const T> y,
                   Sequence<const T> dy, Sequence<T> dx);
template <class T>
void pool_windows(const Run&, const WindowPool<T>&, Sequence<T> y);
template <class T>
void pool_windows_gradient(const Run&, const WindowPool<T>&, Sequence<const T> y, Sequence<const T> dy, Sequence<T> dx,
                           StateRows<T> dpast);
template <class T>
void attend(const Run&, const Batch&, const Attend<T>&, Sequence<T> y);
template <class T>
void attend_gradient(const Run&, const Batch&, const Attend<T>&, Sequence<const T> dy, Sequence<T> du, T* dv);
template <class T>
void attend_input_gradient(const Run&, const Batch&, const Attend<T>&, Sequence<const T> dy, Sequence<T> dx);

}  // namespace recurra::cpu

// Memory that is inaccessible but while a scope is open: who looks at it elsewhere ends the process with a message.
#pragma once
#include "device/device.h"

namespace recurra {

// Opens all fenced memory for a scope of an operation. Scopes nest, and those of several threads overlap.
struct FenceOpen {
  FenceOpen();
  ~FenceOpen();
  FenceOpen(const FenceOpen&) = delete;
  FenceOpen& operator=(const FenceOpen&) = delete;
};

// Closes what this thread's operation has opened, for what the host does in the midst of it.
struct FenceClosed {
  FenceClosed();
  ~FenceClosed();
  FenceClosed(const FenceClosed&) = delete;
  FenceClosed& operator=(const FenceClosed&) = delete;
};

// Whole pages of their own.
MemorySource& fenced_memory();
// HostAccess opens the fence.
HostGate& fence_gate();
// Says, where a fault comes from fenced memory, what it was, and in which case; other faults are as they were.
void report_fence_faults();
void begin_fence_case(const char* name);  // which stays

}  // namespace recurra

// Allocation failure with a message.
#pragma once
#include <new>
#include <string>
#include <utility>

namespace recurra {

class NoMemory : public std::bad_alloc {
 public:
  explicit NoMemory(std::string text) : text_(std::move(text)) {}
  static NoMemory of_bytes(size_t bytes) { return NoMemory("no memory for " + std::to_string(bytes) + " bytes"); }
  const char* what() const noexcept override { return text_.c_str(); }
  static std::string text_of(const std::bad_alloc& error) {
    const bool told = dynamic_cast<const NoMemory*>(&error) != nullptr;
    return told ? error.what() : "no memory for the arrays of a call";
  }

 private:
  std::string text_;
};

}  // namespace recurra

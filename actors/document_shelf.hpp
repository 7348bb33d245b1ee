// Keys of documents that were ranked lately: the least recently used ones make room.
#pragma once

#include <weft/actors/document_keys.hpp>
#include <weft/base/id128.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

namespace weft::actors {

class document_shelf {
 public:
  explicit document_shelf(std::size_t limit_bytes) : limit_bytes_(limit_bytes) {}

  // Null: not here.
  std::shared_ptr<const stored_document_keys> find(const id128& document) {
    const auto found = entries_.find(document);
    if (found == entries_.end()) return nullptr;
    found->second.used = ++turn_;
    return found->second.keys;
  }

  void insert(const id128& document, std::shared_ptr<const stored_document_keys> keys) {
    auto& held = entries_[document];
    if (held.keys) bytes_ -= held.keys->keys.size_bytes();
    bytes_ += keys->keys.size_bytes();
    held = {std::move(keys), ++turn_};
    while (bytes_ > limit_bytes_ && entries_.size() > 1) {
      auto oldest = entries_.begin();
      for (auto i = entries_.begin(); i != entries_.end(); ++i)
        if (i->second.used < oldest->second.used) oldest = i;
      bytes_ -= oldest->second.keys->keys.size_bytes();
      entries_.erase(oldest);
    }
  }

  std::size_t documents() const { return entries_.size(); }

 private:
  struct entry {
    std::shared_ptr<const stored_document_keys> keys;
    std::uint64_t used = 0;
  };
  std::size_t limit_bytes_;
  std::size_t bytes_ = 0;
  std::uint64_t turn_ = 0;
  std::map<id128, entry> entries_;
};

}  // namespace weft::actors

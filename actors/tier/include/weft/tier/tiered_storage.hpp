// Memory above, a file tier below: what is committed in memory is written behind, what memory let go is
// brought back when it is asked for. Joins `machines::storage`, `file_tier` and a device; has no thread of
// its own.
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/id128.hpp>
#include <weft/base/time.hpp>
#include <weft/machines/directory.hpp>
#include <weft/machines/storage.hpp>
#include <weft/tier/device.hpp>
#include <weft/tier/file_tier.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

namespace weft::tier {

struct tiered_hooks {
  std::function<time_point()> clock;
  // Runs a function on the owner's thread, later, unless the owner is gone. Called from the device's thread.
  std::function<void(std::function<void()>)> post;
  // Is it whole and that key's? Then made this life's, with that generation.
  std::function<errc(std::span<std::byte> bytes, const id128& key, std::uint64_t generation)> admit;
  // Is it whole and that key's? Nothing is changed.
  std::function<errc(std::span<const std::byte> bytes, const id128& key)> prove;
  // Of an admitted block of several bands, bytes of its first 1, 2, ... bands; else empty.
  std::function<std::vector<std::uint64_t>(std::span<const std::byte> bytes)> band_ends = {};
  // Neither memory nor file holds these any more: withdraw them.
  std::function<void(const std::vector<id128>&)> gone;
  // Lost bands in memory; carried out before anything is written to the arena.
  std::function<void(const std::vector<machines::trimmed_block>&)> trimmed = {};
  // Held again, after they were said to be gone: announce them.
  std::function<void(const std::vector<machines::announced>&)> back;
};

class tiered_storage {
 public:
  // `slots` was made with `lower_tier`. `slots`, `on` and the arena outlive this object and, the last two,
  // what is under way on the device; so does nothing else of it.
  tiered_storage(machines::storage& slots, std::span<std::byte> arena, device& on, file_tier books,
                 tiered_hooks hooks);

  // It was committed in memory: to be written behind.
  void committed(const id128& key);

  // False while memory takes in more than the device writes; `then` is called when that is over.
  bool takes_more() const;
  void when_it_takes_more(std::function<void()> then);

  // What only the file holds of these comes back into memory, as far as there is room, and stays there until
  // `done` returned. Called at once where there is nothing to do. `front_bytes`: by key, so much of it is
  // wanted, where memory has lost its last bands; 0, or none: all of it.
  void promote(std::span<const id128> keys, std::span<const std::uint64_t> front_bytes,
               std::function<void()> done);
  bool needs_promotion(std::span<const id128> keys, std::span<const std::uint64_t> front_bytes) const;

  // Reads those that are on file and proves them, without taking memory for them and without that it counts
  // as a use. What does not prove itself, or cannot be read, is no longer on file; where memory has it, it is
  // written again. `done` is told which of them are held nowhere any more, at once where nothing is on file.
  void scrub(std::span<const id128> keys, std::function<void(std::vector<id128>)> done);

  // Forgets them on file; which were there.
  std::vector<machines::announced> drop(std::span<const id128> keys);

  // Time passed: writing goes on after the device was full.
  void tick();

  file_tier& books() { return books_; }
  const file_tier& books() const { return books_; }

 private:
  struct batch;
  struct scrub_round;

  bool is_missing(const id128& key, std::uint64_t front_bytes) const;
  bool is_on_file(const id128& key) const;
  void pump();
  void start_writing(const write_order& order);
  void write_header(const header_order& order);
  void start_sync();
  void finish_sync(errc outcome);
  void note_evicted(const std::vector<id128>& keys);
  void wake_waiting();
  void start_reading(const id128& key, const read_order& order, const std::shared_ptr<batch>& first);
  void finish_reading(const id128& key, const read_order& order, const machines::reservation& place,
                      errc outcome);
  void start_check(const id128& key, const read_order& order, const std::shared_ptr<scrub_round>& round);
  void finish_check(const id128& key, const read_order& order, std::span<const std::byte> bytes, errc outcome,
                    scrub_round& round);
  void report_gone(const std::vector<machines::announced>& evicted);
  device::done on_my_thread(std::function<void(errc)> then) const;

  machines::storage& slots_;
  std::span<std::byte> arena_;
  device& device_;
  file_tier books_;
  tiered_hooks hooks_;
  std::unordered_map<id128, std::vector<std::shared_ptr<batch>>> promoting_;
  std::deque<std::function<void()>> waiting_;
};

}  // namespace weft::tier

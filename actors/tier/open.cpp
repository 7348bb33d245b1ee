#include <weft/tier/open.hpp>

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

namespace weft::tier {
namespace {

constexpr std::uint64_t scan_piece_bytes = std::uint64_t{1} << 20;
constexpr std::size_t scan_pieces_at_once = 16;

struct alignas(sector_bytes) aligned_sector {
  sector bytes{};
};

struct alignas(sector_bytes) scan_piece {
  std::array<std::byte, scan_piece_bytes> bytes;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

// Waits for operations whose ends come on another thread, or drives the device by hand.
class waiter {
 public:
  explicit waiter(const std::function<void()>& wait_one) : wait_one_(wait_one) {}

  device::done operator()() {
    return [this](errc outcome) { finish(outcome); };
  }

  void finish(errc outcome) {
    const std::lock_guard lock{mutex_};
    outcome_ = outcome;
    finished_ = true;
    changed_.notify_one();
  }

  errc wait() {
    std::unique_lock lock{mutex_};
    while (!finished_) {
      if (!wait_one_) {
        changed_.wait(lock);
        continue;
      }
      lock.unlock();
      wait_one_();
      lock.lock();
    }
    finished_ = false;
    return outcome_;
  }

 private:
  const std::function<void()>& wait_one_;
  std::mutex mutex_;
  std::condition_variable changed_;
  errc outcome_ = errc::ok;
  bool finished_ = false;
};

// Reads the header area in pieces, several at a time, each handed over on this thread.
class header_scan {
 public:
  header_scan(device& from, const std::function<void()>& wait_one)
      : from_(from), wait_one_(wait_one), end_(from.header_area_bytes() / sector_bytes * sector_bytes) {
    const std::size_t pieces = (end_ - std::min(end_, next_) + scan_piece_bytes - 1) / scan_piece_bytes;
    for (std::size_t i = 0; i < std::min(pieces, scan_pieces_at_once); ++i)
      start(std::make_unique<scan_piece>());
  }

  // Valid until the next call; nullptr at the end.
  const scan_piece* next() {
    if (shown_) start(std::move(shown_));
    while (under_way_ > 0) {
      auto [piece, outcome] = wait_for_one();
      --under_way_;
      if (outcome == errc::ok) {
        shown_ = std::move(piece);
        return shown_.get();
      }
      start(std::move(piece));
    }
    return nullptr;
  }

 private:
  using ended = std::pair<std::unique_ptr<scan_piece>, errc>;

  void start(std::unique_ptr<scan_piece> piece) {
    if (next_ >= end_) return;
    piece->offset = next_;
    piece->length = std::min(scan_piece_bytes, end_ - next_);
    next_ += piece->length;
    ++under_way_;
    scan_piece* raw = piece.release();
    from_.read(area::headers, raw->offset, std::span(raw->bytes).first(raw->length),
               [this, raw](errc outcome) {
                 const std::lock_guard lock{mutex_};
                 ended_.emplace_back(std::unique_ptr<scan_piece>(raw), outcome);
                 changed_.notify_one();
               });
  }

  ended wait_for_one() {
    std::unique_lock lock{mutex_};
    while (ended_.empty()) {
      if (!wait_one_) {
        changed_.wait(lock);
        continue;
      }
      lock.unlock();
      wait_one_();
      lock.lock();
    }
    ended one = std::move(ended_.back());
    ended_.pop_back();
    return one;
  }

  device& from_;
  const std::function<void()>& wait_one_;
  std::uint64_t next_ = sector_bytes;  // sector 0 is the tier's own
  std::uint64_t end_;
  std::size_t under_way_ = 0;
  std::unique_ptr<scan_piece> shown_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<ended> ended_;
};

}  // namespace

result<id128> tier_id_of(device& on, const std::function<id128()>& fresh_id,
                         const std::function<void()>& wait_one) {
  waiter one(wait_one);
  auto first = std::make_unique<aligned_sector>();
  if (on.header_area_bytes() >= sector_bytes) {
    on.read(area::headers, 0, first->bytes, one());
    if (one.wait() != errc::ok) return fail(errc::io, "sector 0 of headers.weft cannot be read");
    auto id = load_tier_id(first->bytes);
    if (id || id.error().code != errc::not_found) return id;
  }
  const id128 id = fresh_id();
  store_tier_id(first->bytes, id);
  on.write(area::headers, 0, first->bytes, one());
  if (const errc outcome = one.wait(); outcome != errc::ok)
    return fail(outcome, "sector 0 of headers.weft cannot be written");
  on.sync(one());
  if (one.wait() != errc::ok) return fail(errc::io, "sector 0 of headers.weft cannot be made durable");
  return id;
}

result<opened_tier> open_tier(const std::filesystem::path& folder, const file_tier_options& options,
                              const std::function<id128()>& fresh_id) {
  auto on = open_file_device(folder, options.capacity_bytes, {.depth = options.depth});
  if (!on) return tl::make_unexpected(on.error());
  const auto id = tier_id_of(**on, fresh_id);
  if (!id) {
    return fail(id.error().code, "the file tier " + folder.string() +
                                     " cannot be used: " + id.error().context +
                                     "; move the folder's files away or name another folder");
  }
  opened_tier opened{.on = std::move(*on), .books = file_tier(options, *id)};
  recover(*opened.on, opened.books);
  return opened;
}

void recover(device& from, file_tier& books, const std::function<void()>& wait_one) {
  header_scan scan(from, wait_one);
  while (const scan_piece* piece = scan.next()) {
    for (std::uint64_t at = 0; at < piece->length; at += sector_bytes)
      books.recover((piece->offset + at) / sector_bytes - 1,
                    std::span(piece->bytes).subspan(at, sector_bytes));
  }
  books.end_recovery();
}

}  // namespace weft::tier

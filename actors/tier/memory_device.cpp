#include <weft/tier/memory_device.hpp>
#include <weft/tier/slot_header.hpp>

#include <algorithm>
#include <utility>

namespace weft::tier {
namespace {

// What a power loss tears: disks write these whole.
constexpr std::uint64_t atom_bytes = 512;

}  // namespace

void memory_device::read(area where, std::uint64_t offset, std::span<std::byte> into, done finished) {
  waiting_.push_back({.what = kind::read,
                      .where = where,
                      .offset = offset,
                      .into = into,
                      .from = {},
                      .finished = std::move(finished)});
}

void memory_device::write(area where, std::uint64_t offset, std::span<const std::byte> from, done finished) {
  waiting_.push_back({.what = kind::write,
                      .where = where,
                      .offset = offset,
                      .into = {},
                      .from = {from.begin(), from.end()},
                      .finished = std::move(finished)});
}

void memory_device::sync(done finished) {
  operation op;
  op.what = kind::sync;
  op.finished = std::move(finished);
  waiting_.push_back(std::move(op));
}

memory_device::operation memory_device::take_any() {
  std::swap(waiting_.front(), waiting_[random_() % waiting_.size()]);
  operation op = std::move(waiting_.front());
  waiting_.pop_front();
  return op;
}

bool memory_device::run_one() {
  if (waiting_.empty()) return false;
  operation op = take_any();
  const errc outcome = carry_out(op);
  op.finished(outcome);
  return true;
}

void memory_device::run_all() {
  while (run_one()) {
  }
}

errc memory_device::carry_out(operation& op) {
  switch (op.what) {
    case kind::write:
      return carry_out_write(op);
    case kind::sync:
      if (chance(faults.failed_sync)) {
        lose_what_is_not_durable();
        return errc::io;
      }
      if (!chance(faults.lost_sync)) {
        for (store& s : areas_)
          s.durable.clear();
      }
      return errc::ok;
    case kind::read:
      break;
  }
  const store& s = of(op.where);
  if (chance(faults.failed_read) || op.offset + op.into.size() > s.bytes.size()) return errc::io;
  std::copy_n(s.bytes.begin() + static_cast<std::ptrdiff_t>(op.offset), op.into.size(), op.into.begin());
  return errc::ok;
}

errc memory_device::carry_out_write(operation& op) {
  if (op.where == area::data && op.offset + op.from.size() > data_limit_bytes_) return errc::out_of_space;
  if (chance(faults.failed_write)) {
    put_part(op);
    return errc::io;
  }
  if (chance(faults.lost_write)) return errc::ok;
  if (chance(faults.misdirected_write)) op.offset += (1 + random_() % 4) * sector_bytes;
  if (chance(faults.flipped_bit)) {
    // In what is looked at: of a header, its first 128 bytes.
    const std::size_t looked_at = op.where == area::headers ? 128 : op.from.size();
    op.from[random_() % looked_at] ^= static_cast<std::byte>(1U << (random_() % 8));
  }
  put(op.where, op.offset, op.from);
  return errc::ok;
}

void memory_device::put(area where, std::uint64_t offset, std::span<const std::byte> from) {
  store& s = of(where);
  if (offset + from.size() > s.bytes.size()) s.bytes.resize(offset + from.size());
  for (std::uint64_t at = offset / atom_bytes * atom_bytes; at < offset + from.size(); at += atom_bytes) {
    const auto begin = s.bytes.begin() + static_cast<std::ptrdiff_t>(at);
    s.durable.try_emplace(at, begin, begin + atom_bytes);
  }
  std::ranges::copy(from, s.bytes.begin() + static_cast<std::ptrdiff_t>(offset));
}

// Any of its atoms.
void memory_device::put_part(const operation& op) {
  for (std::uint64_t at = 0; at < op.from.size(); at += atom_bytes) {
    if (random_() % 2 == 0) put(op.where, op.offset + at, std::span(op.from).subspan(at, atom_bytes));
  }
}

void memory_device::lose_what_is_not_durable() {
  for (store& s : areas_) {
    for (const auto& [at, old] : s.durable) {
      if (random_() % 2 == 0) std::ranges::copy(old, s.bytes.begin() + static_cast<std::ptrdiff_t>(at));
    }
    s.durable.clear();
  }
}

void memory_device::kill() {
  while (!waiting_.empty()) {
    const operation op = take_any();
    if (op.what == kind::write && op.offset + op.from.size() <= data_limit_bytes_) put_part(op);
  }
}

void memory_device::crash() {
  kill();
  lose_what_is_not_durable();
}

}  // namespace weft::tier

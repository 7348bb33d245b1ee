#include <weft/collective/device_communicator.hpp>
#include <weft/collective/device_sums.hpp>

#include <chrono>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace weft::collective {

namespace {

// Two groups of the same ranks: whichever loses one ends both.
class group_with_devices final : public device_communicator {
 public:
  group_with_devices(std::unique_ptr<communicator> host, std::unique_ptr<device_communicator> devices)
      : host_(std::move(host)), devices_(std::move(devices)) {}

  unsigned rank() const override { return host_->rank(); }
  unsigned size() const override { return host_->size(); }
  result<void> all_reduce(std::span<float> values) override { return by_host(host_->all_reduce(values)); }
  result<void> broadcast(std::span<std::byte> bytes, unsigned root) override {
    return by_host(host_->broadcast(bytes, root));
  }
  result<void> all_gather(std::span<std::byte> all, std::span<const std::size_t> part_bytes) override {
    return by_host(host_->all_gather(all, part_bytes));
  }
  result<void> barrier() override { return by_host(host_->barrier()); }
  bool sums_on_devices() const override { return true; }
  result<void> all_reduce_there(std::span<float> values) override {
    auto done = devices_->all_reduce_there(values);
    if (!done) leave_host(done.error());
    return done;
  }
  void leave(const error& why) override {
    leave_host(why);
    devices_->leave(why);
  }

 private:
  result<void> by_host(result<void> done) {
    if (!done) devices_->leave(done.error());
    return done;
  }

  void leave_host(const error& why) {
    if (auto* const host = dynamic_cast<device_communicator*>(host_.get())) host->leave(why);
  }

  std::unique_ptr<communicator> host_;
  std::unique_ptr<device_communicator> devices_;
};

// How many ranks there are for which it holds.
result<unsigned> count(communicator& group, bool here) {
  float ranks = here ? 1.0F : 0.0F;
  if (auto summed = group.all_reduce({&ranks, 1}); !summed) return tl::unexpected(summed.error());
  return static_cast<unsigned>(ranks);
}

result<void> can_sum(const device_sums_options& options) {
  if (!options.device) return fail(errc::unsupported, "this rank computes on its CPU");
  return find_nccl(*options.device);
}

// The first rank's, or an empty one where it could make none.
result<std::string> shared_id(communicator& group) {
  std::string id(nccl_id_bytes, '\0');
  if (group.rank() == 0)
    if (auto made = make_nccl_group_id()) id = std::move(*made);
  if (auto sent = group.broadcast(std::as_writable_bytes(std::span(id)), 0); !sent)
    return tl::unexpected(sent.error());
  return id;
}

// All know about as late as the latest: who fails early waits for those who still wait for it, as a group's
// call has less time than they take.
result<std::unique_ptr<device_communicator>> meet(const std::string& id, const communicator& group,
                                                  const device_sums_options& options) {
  const auto latest = std::chrono::steady_clock::now() + options.join_timeout;
  auto joined = join_nccl_group(id, group.rank(), group.size(),
                                {.group = {.timeout = options.timeout},
                                 .device = *options.device,
                                 .join_timeout = options.join_timeout});
  if (!joined) std::this_thread::sleep_until(latest);
  return joined;
}

result<void> because(const result<void>& own) {
  return own ? fail(errc::unsupported, "another rank of the group has no way to sum on its device") : own;
}

}  // namespace

result<grown_group> with_device_sums(std::unique_ptr<communicator> group,
                                     const device_sums_options& options) {
  if (group->size() == 1) return grown_group{std::move(group), {}};
  const auto own = can_sum(options);
  const auto able = count(*group, own.has_value());
  if (!able) return tl::unexpected(able.error());
  if (*able < group->size()) return grown_group{std::move(group), because(own)};
  const auto id = shared_id(*group);
  if (!id) return tl::unexpected(id.error());
  auto devices = meet(*id, *group, options);
  const auto met = count(*group, devices.has_value());
  if (!met) return tl::unexpected(met.error());
  if (*met < group->size())
    return grown_group{std::move(group), because(devices ? result<void>{} : tl::unexpected(devices.error()))};
  return grown_group{std::make_unique<group_with_devices>(std::move(group), std::move(*devices)), {}};
}

}  // namespace weft::collective

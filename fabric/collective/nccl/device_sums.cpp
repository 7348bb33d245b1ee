#include <weft/collective/device_communicator.hpp>
#include <weft/collective/device_sums.hpp>

#include <chrono>
#include <future>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
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
  result<void> all_reduce_behind(std::span<float> values, device::stream& stream) override {
    return by_devices(devices_->all_reduce_behind(values, stream));
  }
  result<void> launch(device::recording_stream& stream, const device::recording& recorded) override {
    return by_devices(devices_->launch(stream, recorded));
  }
  result<void> wait_for(device::stream& stream) override { return by_devices(devices_->wait_for(stream)); }
  void leave(const error& why) override {
    leave_host(why);
    devices_->leave(why);
  }

 private:
  result<void> by_host(result<void> done) {
    if (!done) devices_->leave(done.error());
    return done;
  }

  result<void> by_devices(result<void> done) {
    if (!done) leave_host(done.error());
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

result<void> because(const result<void>& own) {
  return own ? fail(errc::unsupported, "another rank of the group has no way to sum on its device") : own;
}

using joined_group = result<std::unique_ptr<device_communicator>>;

// Joining may take longer than a call of the group has time: it goes on beside calls in which the ranks tell
// each other how far they are. All have joined, or none has. Errors outside are those of `group`.
result<joined_group> meet(const std::string& id, communicator& group, const device_sums_options& options) {
  constexpr auto between_calls = std::chrono::milliseconds{10};
  std::stop_source given_up;
  auto joining = std::async(std::launch::async, [&, stop = given_up.get_token()] {
    return join_nccl_group(id, group.rank(), group.size(),
                           {.group = {.timeout = options.timeout},
                            .device = *options.device,
                            .join_timeout = options.join_timeout,
                            .stop = stop});
  });
  std::optional<joined_group> own;
  while (true) {
    if (!own && joining.wait_for(between_calls) == std::future_status::ready) own = joining.get();
    const bool failed = own && !own->has_value();
    const auto failures = count(group, failed);
    const auto met = failures ? count(group, own && own->has_value()) : failures;
    if (!met || *failures > 0) given_up.request_stop();
    if (!met) return tl::unexpected(met.error());
    if (failed) return std::move(*own);
    if (*failures > 0) return joined_group(tl::unexpected(because({}).error()));
    if (*met == group.size()) return std::move(*own);
  }
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
  if (!devices) return tl::unexpected(devices.error());
  if (!*devices) return grown_group{std::move(group), tl::unexpected(devices->error())};
  return grown_group{std::make_unique<group_with_devices>(std::move(group), std::move(**devices)), {}};
}

}  // namespace weft::collective

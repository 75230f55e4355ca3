// See scp_transport.hh.
#include "dicom/scp_transport.hh"

#include "base/clock.h"

#include <cerrno>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace
{

constexpr int64_t REPORT_INTERVAL_MS = 1000;
TransferMeter *process_meter; // one association per process

class QuickAckConnection : public DcmTCPConnection
{
  public:
    using DcmTCPConnection::DcmTCPConnection;
    ssize_t read(void *buffer, size_t size) override
    {
        ssize_t n = DcmTCPConnection::read(buffer, size);
        int saved = errno;
        if (n > 0) {
            int one = 1;
            (void)setsockopt(getSocket(), IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
            if (process_meter != nullptr)
                process_meter->add(static_cast<uint64_t>(n));
        }
        errno = saved;
        return n;
    }
};

} // namespace

void scp_set_meter(TransferMeter *meter)
{
    process_meter = meter;
}

DcmTransportConnection *QuickAckLayer::createConnection(DcmNativeSocketType socket, OFBool secure)
{
    return secure ? nullptr : new QuickAckConnection(socket);
}

void TransferMeter::begin_data_set()
{
    inside_ = true;
    reported_ms_ = clock_monotonic_ms();
}

void TransferMeter::end_data_set()
{
    inside_ = false;
}

void TransferMeter::add(uint64_t bytes)
{
    if (!inside_)
        return;
    bytes_ += bytes;
    if (clock_monotonic_ms() - reported_ms_ >= REPORT_INTERVAL_MS)
        report_now();
}

void TransferMeter::report_now()
{
    reported_ms_ = clock_monotonic_ms();
    report_(context_, bytes_);
}

// See scp_transport.hh.
#include "dicom/scp_transport.hh"

#include "base/clock.h"

#include <algorithm>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>

namespace
{

constexpr int64_t REPORT_INTERVAL_MS = 1000;
constexpr size_t PDV_HEAD_BYTES = 12;
constexpr unsigned char PDU_DATA = 4;
TransferMeter *process_meter; // one association per process

class QuickAckConnection : public DcmTCPConnection
{
  public:
    using DcmTCPConnection::DcmTCPConnection;
    ssize_t read(void *buffer, size_t size) override
    {
        if (begin_ < end_) { // read ahead
            size_t n = std::min(size, end_ - begin_);
            memcpy(buffer, ahead_ + begin_, n);
            begin_ += n;
            return static_cast<ssize_t>(n);
        }
        return read_socket(static_cast<char *>(buffer), size);
    }
    OFBool networkDataAvailable(int timeout_s) override
    {
        return begin_ < end_ || DcmTCPConnection::networkDataAvailable(timeout_s);
    }
    OFBool isTransparentConnection() override
    {
        return OFFalse; // the socket alone does not tell whether there is data
    }
    ssize_t write(void *buffer, size_t size) override
    {
        // The 12 bytes in front of a PDV, which DCMTK writes singly, wait for what follows them:
        // one segment and one wake-up of the peer instead of two.
        bool is_head = size == PDV_HEAD_BYTES && *static_cast<unsigned char *>(buffer) == PDU_DATA;
        return send(getSocket(), buffer, size, MSG_NOSIGNAL | (is_head ? MSG_MORE : 0));
    }

  private:
    // Into the caller's buffer, and what is there beyond it into ours.
    ssize_t read_socket(char *buffer, size_t size)
    {
        struct iovec parts[2] = {{buffer, size}, {ahead_, sizeof ahead_}};
        ssize_t n = readv(getSocket(), parts, 2);
        if (n <= 0)
            return n; // errno is the caller's
        int one = 1;
        (void)setsockopt(getSocket(), IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
        if (process_meter != nullptr)
            process_meter->add(static_cast<uint64_t>(n));
        size_t got = static_cast<size_t>(n);
        begin_ = 0;
        end_ = got > size ? got - size : 0;
        return static_cast<ssize_t>(std::min(got, size));
    }

    // Holds a message's command PDUs, or a small PDU, or the header of a large one.
    char ahead_[16384];
    size_t begin_ = 0, end_ = 0;
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

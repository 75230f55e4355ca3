/* See shim.hh. */
#include "dicom/shim.hh"

#include "dicom/write.h"

#include "dcmtk/dcmdata/dcostrmb.h"
#include "dcmtk/dcmdata/dcrledrg.h"
#include "dcmtk/dcmjpeg/djdecode.h"
#include "dcmtk/dcmjpls/djdecode.h"
#include "dcmtk/dcmnet/dul.h"
#include "dcmtk/oflog/appender.h"
#include "dcmtk/oflog/oflog.h"
#include "dcmtk/oflog/spi/logevent.h"

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <mutex>
#include <sys/stat.h>
#include <unistd.h>

static thread_local unsigned warnings; /* of DCMTK on this thread */

/* Takes the place of DCMTK's log: nothing is printed (its text may quote the file), but a decoder's
** warning is all that tells of damaged pixel data which it could read on past. */
class WarningCounter : public dcmtk::log4cplus::Appender
{
  public:
    ~WarningCounter() override
    {
        destructorImpl();
    }
    void close() override
    {
        closed = true;
    }

  protected:
    void append(const dcmtk::log4cplus::spi::InternalLoggingEvent &) override
    {
        warnings++;
    }
};

unsigned dcmtk_warnings()
{
    return warnings;
}

static void count_warnings()
{
    OFLog::configure(OFLogger::OFF_LOG_LEVEL);
    dcmtk::log4cplus::Logger root = dcmtk::log4cplus::Logger::getRoot();
    root.removeAllAppenders();
    root.addAppender(dcmtk::log4cplus::SharedAppenderPtr(new WarningCounter));
    root.setLogLevel(dcmtk::log4cplus::WARN_LOG_LEVEL);
}

static void init_once()
{
    /* Read by DCMTK at each connect and accept: no 40 ms waits between request and response. */
    (void)setenv("TCP_NODELAY", "1", 1);
    count_warnings();
    (void)dcmDataDict.rdlock();
    dcmDataDict.rdunlock();
    dcmDisableGethostbyaddr.set(OFTrue);
    DcmRLEDecoderRegistration::registerCodecs();
    DJDecoderRegistration::registerCodecs();
    DJLSDecoderRegistration::registerCodecs();
}

void dcmtk_init()
{
    static std::once_flag once;
    std::call_once(once, init_once);
}

Status err_dcmtk(Err *err, Status status, const OFCondition &condition, const char *what)
{
    (void)err_set(err, status, "%s (DCMTK %u:%u)", what, condition.module(), condition.code());
    if (err != nullptr)
        err->native = condition.code();
    return status;
}

OFString ds_text(double value)
{
    char text[40];
    for (int digits = 15; digits > 0; digits--) {
        int n = std::snprintf(text, sizeof text, "%.*g", digits, value == 0 ? 0.0 : value);
        if (n <= 16)
            break;
    }
    return text;
}

Status put_text(DcmItem *item, const DcmTagKey &key, const char *value, Err *err)
{
    TRY_DCMTK(item->putAndInsertString(DcmTag(key), value), ST_DICOM_WRITE, err,
              "an attribute cannot be set");
    return ST_OK;
}

Status put_u16(DcmItem *item, const DcmTagKey &key, Uint16 value, Err *err)
{
    /* The VR is given, since some of these tags are "US or SS" in the dictionary. */
    DcmUnsignedShort *element = new DcmUnsignedShort(DcmTag(key, DcmVR(EVR_US)));
    OFCondition condition = element->putUint16(value, 0);
    if (condition.good())
        condition = item->insert(element, OFTrue);
    if (condition.bad()) {
        delete element;
        return err_dcmtk(err, ST_DICOM_WRITE, condition, "an attribute cannot be set");
    }
    return ST_OK;
}

Status copy_element(DcmItem *from, DcmItem *to, const DcmTagKey &key, bool *ret_found, Err *err)
{
    DcmElement *element = nullptr;
    bool found = from->findAndGetElement(key, element).good() && element != nullptr;
    if (found) {
        DcmElement *copy = OFstatic_cast(DcmElement *, element->clone());
        OFCondition condition = to->insert(copy, OFTrue);
        if (condition.bad()) {
            delete copy;
            return err_dcmtk(err, ST_DICOM_WRITE, condition, "an attribute cannot be copied");
        }
    }
    if (ret_found != nullptr)
        *ret_found = found;
    return ST_OK;
}

OFString text_of(DcmItem *item, const DcmTagKey &key)
{
    OFString value;
    if (item->findAndGetOFString(key, value).bad())
        return "";
    size_t first = value.find_first_not_of(" "), last = value.find_last_not_of(OFString(" \0", 2));
    return first == OFString_npos || last == OFString_npos ? OFString("")
                                                           : value.substr(first, last - first + 1);
}

bool number_of(DcmItem *item, const DcmTagKey &key, unsigned long index, double *ret)
{
    OFString value;
    if (item->findAndGetOFString(key, value, index).bad() || value.empty())
        return false;
    char *end = nullptr;
    double number = std::strtod(value.c_str(), &end);
    if (end == value.c_str() || !std::isfinite(number))
        return false;
    while (*end == ' ')
        end++;
    if (*end != '\0')
        return false;
    *ret = number;
    return true;
}

Status bytes_save(const std::vector<Uint8> &bytes, const char *path, Err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    int failed = fd < 0 ? errno : 0;
    for (size_t done = 0; failed == 0 && done < bytes.size();) {
        ssize_t n = write(fd, bytes.data() + done, bytes.size() - done);
        if (n >= 0)
            done += (size_t)n;
        else if (errno != EINTR)
            failed = errno;
    }
    if (failed == 0 && fdatasync(fd) != 0)
        failed = errno;
    struct stat st;
    bool is_file = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    if (fd >= 0 && close(fd) != 0 && failed == 0)
        failed = errno;
    if (failed == 0)
        return ST_OK;
    if (is_file)
        (void)unlink(path); /* a part of an image must not be taken for one */
    Status status = err_sys(err, failed, "writing %s", path);
    if (status == ST_DISK_FULL)
        return status;
    if (err != nullptr)
        err->status = ST_DICOM_WRITE;
    return ST_DICOM_WRITE;
}

Status file_encode(DcmFileFormat *file, std::vector<Uint8> *ret, Err *err)
{
    const E_TransferSyntax syntax = EXS_LittleEndianExplicit;
    char implementation[UID_SIZE];
    uid_from_key("ct2mr implementation class", implementation);
    TRY_DCMTK(file->validateMetaInfo(syntax, EWM_createNewMeta), ST_DICOM_WRITE, err,
              "meta information cannot be made");
    DcmMetaInfo *meta = file->getMetaInfo();
    TRY(put_text(meta, DCM_ImplementationClassUID, implementation, err));
    TRY(put_text(meta, DCM_ImplementationVersionName, "CT2MR_" CT2MR_VERSION, err));
    TRY_DCMTK(
        meta->computeGroupLengthAndPadding(EGL_withGL, EPD_noChange, syntax, EET_ExplicitLength),
        ST_DICOM_WRITE, err, "meta information cannot be made");

    /* calcElementLength() may leave out the preamble; a page of slack costs nothing. */
    ret->resize(file->calcElementLength(syntax, EET_ExplicitLength) + 4096);
    DcmOutputBufferStream stream(ret->data(), (offile_off_t)ret->size());
    file->transferInit();
    TRY_DCMTK(file->write(stream, syntax, EET_ExplicitLength, nullptr, EGL_withoutGL,
                          EPD_withoutPadding, 0, 0, 0, EWM_dontUpdateMeta),
              ST_DICOM_WRITE, err, "a DICOM file cannot be encoded");
    file->transferEnd();
    void *written = nullptr;
    offile_off_t size_bytes = 0;
    stream.flushBuffer(written, size_bytes);
    ret->resize((size_t)size_bytes);
    return ST_OK;
}

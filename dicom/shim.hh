/* The wall between DCMTK and the rest: C++ exceptions and OFConditions end here.
**
** Every extern "C" function of dicom/ has its body inside guard(), which turns an exception into a
** Status. dcmtk_init() sets the library up once per process: no logging, no reverse look-ups, the
** data dictionary loaded (not thread-safe later), the lossless decoders registered.
**
** Err messages hold our words and DCMTK's module:code, never its text: that may quote values of the
** file or of the peer.
**
** Thread: all functions may be called from any thread. */
#ifndef CT2MR_DICOM_SHIM_HH
#define CT2MR_DICOM_SHIM_HH

#include "base/err.h"

#include "dcmtk/config/osconfig.h"
#include "dcmtk/dcmdata/dctk.h"

#include <exception>
#include <new>
#include <vector>

void dcmtk_init();
/* How often DCMTK has warned on this thread: more after a call than before means that it found
** something wrong and went on. */
unsigned dcmtk_warnings();

/* Sets err from a failed condition: "what (DCMTK 6:784)". */
Status err_dcmtk(Err *err, Status status, const OFCondition &condition, const char *what);

/* Puts a condition that must be good into the flow of a function that returns Status. */
#define TRY_DCMTK(call, status, err, what)                                                         \
    do {                                                                                           \
        OFCondition try_condition_ = (call);                                                       \
        if (try_condition_.bad())                                                                  \
            return err_dcmtk(err, status, try_condition_, what);                                   \
    } while (0)

template <class Body>
Status guard(Err *err, Body body)
{
    try {
        dcmtk_init();
        return body();
    } catch (const std::bad_alloc &) {
        return err_set(err, ST_NO_MEMORY, "out of memory in the DICOM library");
    } catch (const std::exception &) {
        return err_set(err, ST_INTERNAL, "exception in the DICOM library");
    } catch (...) {
        return err_set(err, ST_INTERNAL, "unknown exception in the DICOM library");
    }
}

/* A number as a DICOM Decimal String: at most 16 characters, as many digits as fit. Source: PS3.5
** table 6.2-1. The locale must be "C" (nothing in this program sets another). */
OFString ds_text(double value);

/* Inserts a string, replacing what was there; an empty value is written with length 0. */
Status put_text(DcmItem *item, const DcmTagKey &key, const char *value, Err *err);
Status put_u16(DcmItem *item, const DcmTagKey &key, Uint16 value, Err *err);
/* Copies an element as it stands. False in *ret_found if it is absent. */
Status copy_element(DcmItem *from, DcmItem *to, const DcmTagKey &key, bool *ret_found, Err *err);
/* First value without leading and trailing blanks, "" if absent. */
OFString text_of(DcmItem *item, const DcmTagKey &key);
/* Number of value `index` of a DS or IS attribute; false if absent or no finite number. */
bool number_of(DcmItem *item, const DcmTagKey &key, unsigned long index, double *ret);

/* Gives the file our meta information and encodes it as Explicit VR Little Endian. The bytes depend
** on nothing but the data set. */
Status file_encode(DcmFileFormat *file, std::vector<Uint8> *ret, Err *err);
/* Writes and fdatasync's; nothing stays on failure. Errors: DICOM_WRITE, DISK_FULL. */
Status bytes_save(const std::vector<Uint8> &bytes, const char *path, Err *err);

#endif

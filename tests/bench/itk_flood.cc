/* ITK's watershed from markers on the same bytes as ours, for bench_mask.sh.
**   itk_flood NX NY NZ LEVEL MARKER LABEL   raw files, 8 bits a voxel; prints CPU seconds */
#include "itkImage.h"
#include "itkMorphologicalWatershedFromMarkersImageFilter.h"
#include "itkMultiThreaderBase.h"

#include <cstdio>
#include <cstdlib>
#include <ctime>

using Image = itk::Image<unsigned char, 3>;

static Image::Pointer read_raw(const char *path, const Image::SizeType &size)
{
    auto image = Image::New();
    image->SetRegions(Image::RegionType(size));
    image->Allocate();
    size_t n = size[0] * size[1] * size[2];
    FILE *f = std::fopen(path, "rb");
    if (f == nullptr || std::fread(image->GetBufferPointer(), 1, n, f) != n) {
        std::fprintf(stderr, "itk_flood: cannot read %s\n", path);
        std::exit(1);
    }
    std::fclose(f);
    return image;
}

int main(int argc, char **argv)
{
    if (argc != 7)
        return 2;
    itk::MultiThreaderBase::SetGlobalDefaultNumberOfThreads(1);
    Image::SizeType size = {{(itk::SizeValueType)std::atol(argv[1]),
                             (itk::SizeValueType)std::atol(argv[2]),
                             (itk::SizeValueType)std::atol(argv[3])}};
    auto filter = itk::MorphologicalWatershedFromMarkersImageFilter<Image, Image>::New();
    filter->SetInput1(read_raw(argv[4], size));
    filter->SetInput2(read_raw(argv[5], size));
    filter->SetMarkWatershedLine(false);
    filter->SetFullyConnected(false);
    std::clock_t begin = std::clock();
    filter->Update();
    std::printf("%.2f\n", (double)(std::clock() - begin) / CLOCKS_PER_SEC);
    FILE *f = std::fopen(argv[6], "wb");
    size_t n = size[0] * size[1] * size[2];
    bool ok = f != nullptr && std::fwrite(filter->GetOutput()->GetBufferPointer(), 1, n, f) == n;
    return ok && std::fclose(f) == 0 ? 0 : 1;
}

"""Small clips with one property each, in every container that can have it, made by the `ffmpeg` command."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av

PICTURE = "testsrc2=s={size}:r=25:d={seconds}"
SOUND = "aevalsrc=0.4*sin(2*PI*(200*t+1500*t*t))|0.4*sin(2*PI*(300*t+900*t*t)):s=48000:d={seconds}"
"""A tone that rises, so that every moment sounds different and a shift can be measured."""

VIDEO = {
    "mp4": "-c:v libx264 -pix_fmt yuv420p",
    "mov": "-c:v libx264 -pix_fmt yuv420p",
    "mkv": "-c:v libx264 -pix_fmt yuv420p",
    "webm": "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -pix_fmt yuv420p",
    "avi": "-c:v mpeg4 -q:v 3",
    "gif": "-c:v gif",
    "png": "",
}
AUDIO = {"mp4": "aac", "mov": "aac", "mkv": "aac", "webm": "libopus", "avi": "libmp3lame"}
_HEVC = "-c:v libx265 -pix_fmt yuv420p10le -x265-params log-level=none"
_VP9 = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8"
_HDR10 = (
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400"
)
_SVT_HDR10 = (
    "mastering-display=G(0.265,0.69)B(0.15,0.06)R(0.68,0.32)WP(0.3127,0.329)L(1000,0.005)"
    ":content-light=1000,400"
)
_PQ = "-color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc -color_range tv"
_HLG = "-color_primaries bt2020 -color_trc arib-std-b67 -colorspace bt2020nc -color_range tv"
_FILM = ("mp4", "mov", "mkv")
_VIDEO = ("mp4", "mov", "mkv", "webm", "avi")


@dataclass(frozen=True)
class Case:
    """One clip: what is special about it, its container, and how the program is to be called.

    `options`: what ffmpeg is told after its inputs; `sound`: whether a sound track is among them; `first`:
    options of a first file that is then copied with `options`. `expect` is an exit code.
    """

    name: str
    suffix: str
    options: str
    size: str = "96x64"
    seconds: float = 0.8
    sound: bool = False
    first: str = ""
    clean: str = ""
    output: str = ""
    pipe: bool = False
    expect: int = 0


def cases() -> Iterator[Case]:
    """Every property in every container that can have it."""
    fine = {"avi": "-c:v ffv1 -pix_fmt yuv420p", **dict.fromkeys(_FILM, "-pix_fmt yuv444p")}
    for suffix, video in VIDEO.items():
        yield Case("no audio", suffix, video)
        yield Case("one frame", suffix, f"{video} -frames:v 1")
        yield Case("odd size", suffix, f"-vf {_ODD} {video} {fine.get(suffix, '')}", size="98x62")
        if suffix in _VIDEO:
            yield Case("sample aspect", suffix, f"{video} -vf setsar=4/3")
            yield Case("zero-length", suffix, video, expect=3)
        if suffix != "png":
            yield Case("variable frame rate", suffix, f"{video} {_irregular(suffix)}")
        yield Case("empty file", suffix, video, expect=3)
    yield from _timing()
    yield from _colours()
    yield from _streams()
    yield from _elsewhere()


def _irregular(suffix: str) -> str:
    if suffix == "avi":
        # pictures are counted there, not timed; gaps are all it has
        return "-vf select='not(eq(mod(n\\,5)\\,3))' -fps_mode passthrough"
    ticks, stamp = (12800, "N*512+137*mod(N*N\\,5)")
    if suffix in ("mkv", "webm"):
        ticks, stamp = (1000, "N*40+7*mod(N*N\\,5)")
    elif suffix == "gif":
        ticks, stamp = (100, "N*7+mod(N*N\\,5)")
    scale = f"-video_track_timescale {ticks}" if suffix in ("mp4", "mov") else ""
    return f"-vf settb=1/{ticks},setpts={stamp} -fps_mode passthrough -enc_time_base 1:{ticks} {scale}"


def _timing() -> Iterator[Case]:
    for suffix in _FILM:
        late = "-vf setpts=PTS+0.32/TB -fps_mode passthrough"
        yield Case("start offset", suffix, f"{VIDEO[suffix]} {late} -c:a {AUDIO[suffix]}", sound=True)
        for turn in (90, 180, 270):
            turned = "@turn" if suffix == "mkv" else "-c copy"
            yield Case(
                f"rotation {turn}",
                suffix,
                f"{turned} -metadata:s:v rotate={turn}",
                first=f"{VIDEO[suffix]} -bf 0",
            )
        frames = "-bf 3 -b_strategy 0 -g 8"
        yield Case(
            "B-frames, open GOP", suffix, f"{VIDEO[suffix]} {frames} -x264-params open-gop=1", sound=True
        )
        hevc = "bframes=3:open-gop=1:keyint=8:min-keyint=8:b-adapt=0:log-level=none"
        hevc = f"-c:v libx265 -pix_fmt yuv420p -x265-params {hevc}"
        yield Case("B-frames, open GOP (HEVC)", suffix, hevc, seconds=1.2)
        yield Case("interlaced", suffix, f"{VIDEO[suffix]} -flags +ildct+ilme -vf setfield=tff")
        bottom = "-c:v mpeg2video -q:v 3 -flags +ildct+ilme -vf setfield=bff"
        yield Case("interlaced (MPEG-2, bottom first)", suffix, bottom)
    for suffix in ("mp4", "mov"):
        whole = f"{VIDEO[suffix]} -g 50 -bf 2 -c:a aac"
        yield Case("edit list", suffix, "-c copy", first=f"{whole} -ss 0.5", sound=True, seconds=1.6)
    yield Case("unknown duration", "mp4", f"{VIDEO['mp4']} -movflags frag_keyframe+empty_moov", pipe=True)
    for suffix in ("mkv", "webm"):
        yield Case("unknown duration", suffix, VIDEO[suffix], pipe=True)
    for suffix in _VIDEO:
        options = f"{VIDEO[suffix]} -g 8 -c:a {AUDIO[suffix]}"
        yield Case("--start 0.31 --end 1.13", suffix, options, **_cut(1.6))  # type: ignore[arg-type]
        if suffix in ("mov", "mkv", "avi"):
            pcm = f"{VIDEO[suffix]} -g 8 -c:a pcm_s16le"
            yield Case("--start 0.31 --end 1.13 (PCM)", suffix, pcm, **_cut(1.6))  # type: ignore[arg-type]
        if suffix in ("mp4", "mkv"):
            opus = f"{VIDEO[suffix]} -g 8 -c:a libopus"
            yield Case("--start 0.31 --end 1.13 (Opus)", suffix, opus, **_cut(1.6))  # type: ignore[arg-type]

    for suffix in ("gif", "png"):
        yield Case(
            "--start 0.31 --end 1.13", suffix, VIDEO[suffix], seconds=1.6, clean="--start 0.31 --end 1.13"
        )


def _cut(seconds: float) -> dict[str, object]:
    return {"sound": True, "seconds": seconds, "clean": "--start 0.31 --end 1.13"}


def _colours() -> Iterator[Case]:
    for suffix in _FILM:
        x264 = VIDEO[suffix]
        hdr = f"-c:v libx265 -pix_fmt yuv420p10le -x265-params log-level=none:hdr10=1:{_HDR10} {_PQ}"
        yield Case("10-bit HEVC", suffix, f"{_HEVC} -color_range tv")
        yield Case("HDR10 (HEVC)", suffix, hdr)
        yield Case("HLG", suffix, f"{_HEVC} {_HLG}")
        yield Case("full range", suffix, f"{x264} -vf scale=out_range=pc -color_range pc")
        yield Case("limited range", suffix, f"{x264} -color_range tv -colorspace bt709")
        yield Case("BT.2020", suffix, f"{x264} {_HLG.replace('arib-std-b67', 'bt2020-10')}")
        for name, tag in (("BT.601", "smpte170m"), ("BT.709", "bt709")):
            yield Case(name, suffix, f"{x264} {_tags(tag)}")
    for suffix in ("mkv", "webm"):
        yield Case("alpha", suffix, f"{_VP9} -pix_fmt yuva420p -auto-alt-ref 0 -vf {_HALF}")
    vp9, av1 = VIDEO["webm"], "-c:v libsvtav1 -preset 10 -pix_fmt yuv420p10le"
    yield Case("full range", "webm", f"{vp9} -vf scale=out_range=pc -color_range pc")
    yield Case("limited range", "webm", f"{vp9} -color_range tv")
    yield Case("BT.601", "webm", f"{vp9} {_tags('smpte170m')}")
    yield Case("BT.709", "webm", f"{vp9} {_tags('bt709')}")
    yield Case("BT.2020", "webm", f"{av1} {_HLG.replace('arib-std-b67', 'bt2020-10')}")
    yield Case("HLG", "webm", f"{av1} {_HLG}")
    for suffix in ("mp4", "mkv", "webm"):
        yield Case("10-bit VP9", suffix, f"{_VP9} -pix_fmt yuv420p10le")
        svt = f"-c:v libsvtav1 -preset 10 -pix_fmt yuv420p10le -svtav1-params enable-hdr=1:{_SVT_HDR10} {_PQ}"
        yield Case("HDR10 (AV1)", suffix, svt)
    yield Case("alpha", "mov", f"-c:v prores_ks -profile:v 4444 -pix_fmt yuva444p10le -vf {_HALF}")
    yield Case("alpha (FFV1)", "mkv", f"-c:v ffv1 -pix_fmt yuva420p -vf {_HALF}")
    yield Case("alpha", "avi", f"-c:v ffv1 -pix_fmt bgra -vf {_HALF}")
    yield Case("alpha", "gif", f"-vf {_HALF},split[a][b];[a]palettegen[p];[b][p]paletteuse -c:v gif")
    yield Case("alpha", "png", f"-pix_fmt rgba -vf {_HALF}")


_ODD = "format=rgb24,crop=97:61"
_HALF = "format=rgba,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='255*lt(X,48)'"


def _tags(tag: str) -> str:
    return f"-color_primaries {tag} -color_trc {tag} -colorspace {tag} -color_range tv"


def _streams() -> Iterator[Case]:
    for suffix in _VIDEO:
        video, codec = VIDEO[suffix], AUDIO[suffix]
        german = "ger" if suffix == "mov" else "deu"  # QuickTime's code
        both = f"-map 0 -map 1 -map 1 -metadata:s:a:0 language=eng -metadata:s:a:1 language={german}"
        yield Case("two audio tracks, languages", suffix, f"{video} {both} -c:a {codec}", sound=True)
        words = "-metadata title=Plaza -metadata artist=Me -metadata comment=Noon -metadata:s:v title=Left"
        yield Case("metadata", suffix, f"{video} {words}")
    for suffix, codec in (
        *(("mp4", c) for c in ("aac", "libopus")),
        *(("mov", c) for c in ("aac", "pcm_s16le")),
        *(("mkv", c) for c in ("aac", "libopus", "pcm_s24le")),
        ("webm", "libopus"),
        ("avi", "pcm_s16le"),
    ):
        name = {"aac": "AAC", "libopus": "Opus"}.get(codec, "PCM")
        yield Case(name, suffix, f"{VIDEO[suffix]} -c:a {codec}", sound=True)
    for suffix, codec in (("mp4", "mov_text"), ("mov", "mov_text"), ("mkv", "subrip"), ("webm", "webvtt")):
        yield Case("subtitles", suffix, f"{VIDEO[suffix]} @srt -c:s {codec} -metadata:s:s language=fra")
    for suffix in ("mp4", "mov", "mkv", "webm"):
        yield Case("chapters", suffix, f"{VIDEO[suffix]} @chapters", sound=True)
    yield Case("cover art", "mp4", f"{VIDEO['mp4']} @cover -c:v:1 mjpeg -disposition:v:1 attached_pic")
    yield Case("cover art", "mkv", f"{VIDEO['mkv']} @attach", sound=True)


def _elsewhere() -> Iterator[Case]:
    """Much at once, into another container."""
    much = "-map 0 -map 1 -map 1 -map 2 -metadata:s:a:0 language=eng -metadata:s:a:1 language=deu"
    told = "-metadata title=Plaza -metadata:s:s language=fra -metadata:s:a:1 title=Aside"
    told += " -disposition:a:1 comment -disposition:s:0 forced"
    rest = f"@srt @chapters {much} {told} -vf setsar=4/3 {_tags('bt709')}"
    mkv = f"{VIDEO['mkv']} -c:a:0 aac -c:a:1 libopus -c:s subrip {rest}"
    mp4 = f"{VIDEO['mp4']} -c:a aac -c:s mov_text {rest}"
    webm = f"{VIDEO['webm']} -c:a libopus -c:s webvtt {rest}"
    for output in ("mp4", "mov", "webm", "avi", "gif", "folder"):
        yield Case(f"into {output}", "mkv", mkv, sound=True, output=output)
    for output in ("mkv", "webm", "mov"):
        yield Case(f"into {output}", "mp4", mp4, sound=True, output=output)
    yield Case("into mkv", "mov", mp4, sound=True, output="mkv")
    for output in ("mp4", "mkv"):
        yield Case(f"into {output}", "webm", webm, sound=True, output=output)
    yield Case("into mp4", "avi", f"{VIDEO['avi']} -c:a libmp3lame", sound=True, output="mp4")
    yield Case("into mp4", "gif", VIDEO["gif"], output="mp4")
    yield Case("into mp4", "png", "", output="mp4")


def make(case: Case, folder: Path) -> Path:
    """Make the clip of a case in a folder that is there; raises RuntimeError with ffmpeg's words."""
    path = folder / f"in.{case.suffix}"
    if case.name == "empty file":
        path.touch() if case.suffix != "png" else path.mkdir()
        return path
    inputs = ["-f", "lavfi", "-i", PICTURE.format(size=case.size, seconds=case.seconds)]
    if case.sound:
        inputs += ["-f", "lavfi", "-i", SOUND.format(seconds=case.seconds)]
    options = _with_files(case.options, folder, inputs)
    if case.name == "zero-length":
        options += ["-t", "0"]
    if case.first:
        whole = folder / f"whole.{case.suffix}"
        first, _, seek = case.first.partition(" -ss ")
        _run([*inputs, *first.split(), str(whole)])
        inputs = [*(["-ss", seek] if seek else []), "-i", str(whole)]
    if options[:1] == ["@turn"]:
        _turn(folder / "whole.mkv", path, int(options[-1].removeprefix("rotate=")))
    elif case.suffix == "png":
        path = folder / "in"
        path.mkdir()
        _run([*inputs, *options, str(path / "%03d.png")])
    elif case.pipe:
        form = {"mkv": "matroska"}.get(case.suffix, case.suffix)
        path.write_bytes(_run([*inputs, *options, "-f", form, "-"]))
    else:
        _run([*inputs, *options, str(path)])
    return path


def _with_files(options: str, folder: Path, inputs: list[str]) -> list[str]:
    """The options with what begins with @ replaced by files made for it."""
    words = []
    for word in options.split():
        number = str(inputs.count("-i"))
        if word == "@srt":
            (folder / "words.srt").write_text(
                "1\n00:00:00,120 --> 00:00:00,320\nHello <i>there</i>\n\n"
                "2\n00:00:00,500 --> 00:00:00,700\nWorld, with ä\n\n"
            )
            inputs += ["-i", str(folder / "words.srt")]
        elif word == "@chapters":
            (folder / "chapters.txt").write_text(
                ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=400\ntitle=one\n"
                "[CHAPTER]\nTIMEBASE=1/1000\nSTART=400\nEND=800\ntitle=two\n"
            )
            inputs += ["-f", "ffmetadata", "-i", str(folder / "chapters.txt")]
            words += ["-map_chapters", number]
        elif word in ("@cover", "@attach"):
            cover = folder / "cover.jpg"
            _run(
                [
                    "-f",
                    "lavfi",
                    "-i",
                    PICTURE.format(size="32x32", seconds=0.04),
                    "-frames:v",
                    "1",
                    str(cover),
                ]
            )
            if word == "@attach":
                words += ["-attach", str(cover), "-metadata:s:t", "mimetype=image/jpeg"]
            else:
                inputs += ["-i", str(cover)]
                words += ["-map", "0", "-map", number]
        else:
            words.append(word)
    return words


def _turn(source: Path, path: Path, degrees: int) -> None:
    """Copy with a display matrix, which the ffmpeg command of this age cannot write into Matroska."""
    with av.open(str(source)) as given, av.open(str(path), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0], opaque=True)
        stream.set_display_rotation(-degrees)
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)


def _run(arguments: list[str]) -> bytes:
    done = subprocess.run(["ffmpeg", "-v", "error", "-y", *arguments], capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace").strip().splitlines()[-1])
    return done.stdout

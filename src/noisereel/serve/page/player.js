/** One or more videos played together: they begin each round at the same moment and stop on the same frame. */

import { button, calm, make } from "./dom.js";

export class Player {
  constructor(fps = 16) {
    this.fps = fps;
    this.videos = [];
    this.toggle = button("Play", () => this.toggled(), "quiet small");
    this.slider = make("input", { type: "range", min: 0, max: 1, step: 1, value: 0, "aria-label": "Frame" });
    this.slider.addEventListener("input", () => this.show(Number(this.slider.value)));
    this.count = make("span", { className: "count" });
    this.controls = make("div", { className: "player", role: "group", "aria-label": "Playback", hidden: true },
      this.toggle, this.slider, this.count);
    this.playing = !calm();
  }

  /** A video element that plays with the others from now on. */
  add(address) {
    const video = make("video", { src: address, muted: true, playsInline: true, preload: "auto" });
    video.setAttribute("playsinline", "");
    video.addEventListener("ended", () => this.ended());
    video.addEventListener("loadeddata", () => this.ready(), { once: true });
    this.videos.push(video);
    return video;
  }

  ready() {
    this.controls.hidden = false;
    this.slider.max = this.frames - 1;
    this.restart();
    this.draw();
  }

  get longest() {
    return this.videos.reduce((a, b) => ((b.duration || 0) > (a.duration || 0) ? b : a), this.videos[0]);
  }

  get frames() {
    return Math.max(1, Math.round((this.longest?.duration || 0) * this.fps));
  }

  /** A round is over when the longest is; the shorter ones have waited on their last frame. */
  ended() {
    if (this.playing && this.videos.every((video) => video.ended || video.readyState < 2)) this.restart();
  }

  restart() {
    for (const video of this.videos) video.currentTime = 0;
    if (this.playing) this.play();
  }

  play() {
    this.playing = true;
    if (this.videos.every((video) => video.ended)) for (const video of this.videos) video.currentTime = 0;
    for (const video of this.videos) if (!video.ended) video.play().catch(() => {}); // a browser may refuse, or it was removed
    this.draw();
    this.follow();
  }

  pause() {
    this.playing = false;
    for (const video of this.videos) video.pause();
    this.draw();
  }

  toggled() {
    if (this.playing) this.pause();
    else this.play();
  }

  /** Stop on a frame, the same in every video that has it. */
  show(frame) {
    this.pause();
    const chosen = Math.min(Math.max(frame, 0), this.frames - 1);
    for (const video of this.videos) {
      const last = Math.max(0, (video.duration || 0) - 0.5 / this.fps);
      video.currentTime = Math.min((chosen + 0.5) / this.fps, last); // its middle, clear of rounding
    }
    this.draw(chosen);
  }

  /** The arrow keys and the space bar, from wherever the player is shown. */
  key(event) {
    if (event.target.matches("input, textarea, select, button, summary, a") && event.target !== this.slider) return;
    if (event.key === " ") this.toggled();
    else if (event.key === "ArrowLeft") this.show(this.frame - 1);
    else if (event.key === "ArrowRight") this.show(this.frame + 1);
    else return;
    event.preventDefault();
  }

  get frame() {
    return Math.min(this.frames - 1, Math.floor((this.longest?.currentTime || 0) * this.fps + 1e-3));
  }

  /** While it plays, the slider goes with it; only a new frame is worth drawing. */
  follow() {
    cancelAnimationFrame(this.tick);
    if (this.frame !== this.drawn) this.draw();
    if (this.playing && this.videos.some((video) => video.isConnected)) this.tick = requestAnimationFrame(() => this.follow());
  }

  draw(frame = this.frame) {
    this.drawn = frame;
    this.slider.value = frame;
    this.count.textContent = `${frame + 1} / ${this.frames}`;
    this.toggle.textContent = this.playing ? "Pause" : "Play";
  }

  /** Stop, and let go of the videos. */
  close() {
    this.pause();
    this.videos = [];
  }
}

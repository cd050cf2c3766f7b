// One tooltip for all charts. What it says is text, never markup.

class Tooltip {
  constructor() {
    this.box = document.getElementById("tooltip");
    addEventListener("scroll", () => this.hide(), { passive: true });
  }

  show(event, text) {
    const box = this.box;
    box.textContent = text;
    box.hidden = false;
    const left = Math.min(event.clientX + 14, innerWidth - box.offsetWidth - 6);
    const below = event.clientY + 18;
    const fits = below + box.offsetHeight < innerHeight;
    box.style.left = `${Math.max(left, 6)}px`;
    box.style.top = `${fits ? below : event.clientY - box.offsetHeight - 10}px`;
  }

  hide() {
    this.box.hidden = true;
  }
}

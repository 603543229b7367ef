"""What a reader of a page would stumble over, found by a browser: things cut off, words broken, zeros with decimals."""

from typing import cast

from playwright.sync_api import Page

_FAULTS = r"""() => {
  const faults = new Set(), have = document.documentElement.clientWidth;
  const wide = document.documentElement.scrollWidth;
  if (wide > have) faults.add(`the page is ${wide} wide, of ${have}`);
  const visible = element => element.checkVisibility();
  for (const svg of document.querySelectorAll('svg[role=img]')) {
    const box = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
    texts.forEach(([name, own], at) => {
      if (own.left < box.left - .5 || own.right > box.right + .5 || own.top < box.top - .5
          || own.bottom > box.bottom + .5)
        faults.add(`cut off in a chart: ${name}`);
      for (const [other, one] of texts.slice(at + 1))
        if (own.left < one.right - 1 && one.left < own.right - 1 && own.top < one.bottom - 2
            && one.top < own.bottom - 2)
          faults.add(`one over the other in a chart: ${name}, ${other}`);
    });
  }
  for (const element of document.querySelectorAll('main *')) {
    if (!visible(element) || element.closest('svg')) continue;
    if (element.getBoundingClientRect().right > have + .5 && !element.closest('.scroll, .long'))
      faults.add(`beyond the right edge: ${element.tagName} ${element.textContent.slice(0, 40)}`);
    const style = getComputedStyle(element);
    if (style.overflowX !== 'visible' && element.scrollWidth > element.clientWidth + 1 && element.tabIndex < 0)
      faults.add(`cut off, and does not scroll: ${element.tagName} ${element.textContent.slice(0, 40)}`);
  }
  const walker = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (!visible(node.parentElement)) continue;
    // A number, or letters and digits without a separator; scripts without blanks may be broken anywhere.
    for (const word of node.data.matchAll(/\d[\d.,]*\d|[\p{L}\p{N}]+/gu)) {
      if (/[\u0e00-\u0eff\u2e80-\u9fff\uac00-\ud7af]/.test(word[0])) continue;
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const lines = [...range.getClientRects()].filter(line => line.width > 0).map(line => line.top);
      if (lines.length && Math.max(...lines) - Math.min(...lines) > 3)
        faults.add(`broken: ${word[0].slice(0, 60)} in ${node.parentElement.tagName}`);
    }
  }
  const zeros = /(?<![\d.])[-−+]?0[.]0+%?(?![\d.])|(?<![\d.])0%|\b0e[-+]?0|\bnan\b|\binf\b/g;
  for (const zero of document.querySelector('main').innerText.matchAll(zeros))
    faults.add(`not 0: ${zero[0]}`);
  return [...faults];
}"""


def faults(page: Page) -> list[str]:
    """Sentences; none if nothing is wrong. What is folded is not looked at."""
    return cast(list[str], page.evaluate(_FAULTS))
